"""The folder that a delta is kept in: `delta.safetensors`, `images/`, and `card.json` over both.

A folder is complete or absent, never half-written, and none of its files is used before it was
compared with the card.
"""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from unsee.core.errors import DeltaDamaged, InputError
from unsee.core.files import new_folder, write_file
from unsee.core.policy import Policy
from unsee.core.validation import describe
from unsee.deltas.delta import Card, Delta
from unsee.deltas.files import (
    CARD_FILE,
    MANIFEST_FILE,
    SIGNATURE_FILE,
    read_card,
    verify_files,
    write_card,
)
from unsee.models.digest import tensors_digest

TENSORS_FILE = "delta.safetensors"
IMAGES_FOLDER = "images"

_FILES = {TENSORS_FILE, CARD_FILE, MANIFEST_FILE, SIGNATURE_FILE}
_IMAGE = re.compile(rf"{IMAGES_FOLDER}/\d{{2,}}\.png")


def save_delta(
    delta: Delta, folder: Path, *, images: Sequence[Image.Image] = (), force: bool = False
) -> None:
    """Write the delta, its images and the card over both as `folder`, complete or not at all.

    A folder that is replaced loses its signature with its old content.

    Args:
        images: the pictures that it was learned from, kept beside it as PNG files.
        force: replace a folder that holds a delta and nothing else.

    Raises:
        InputError: `folder` exists and `force` is not given, or it holds other files.
    """
    check_writable(folder, force=force)
    with new_folder(folder, replace=True) as fresh:
        _write(delta, images, fresh)


def load_card(folder: Path) -> Card:
    """Return the card of the delta in `folder`; no other file is compared with it.

    Raises:
        InputError: `folder` holds no delta.
        DeltaDamaged: its card is missing, changed or not valid.
    """
    _check_is_delta(folder)
    fields, _ = read_card(folder)
    try:
        return Card.model_validate_json(json.dumps(fields))
    except ValidationError as error:
        raise DeltaDamaged(
            f"{folder / CARD_FILE} is not a valid card: {describe(error)}"
        ) from error


def load_delta(folder: Path) -> Delta:
    """Return the delta in `folder` after comparing every file with the card.

    Raises:
        InputError: `folder` holds no delta.
        DeltaDamaged: a file is missing, changed, unreadable, not named by the card or a link,
            or the tensors are not what the card describes.
    """
    card = load_card(folder)
    verify_files(folder)
    file = folder / TENSORS_FILE
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise DeltaDamaged(
            f"{file} of the concept {card.concept.name!r} is missing or unreadable; unlearn again"
        ) from error
    strange = [name for name, tensor in tensors.items() if tensor.dtype != torch.float32]
    if strange or tensors_digest(tensors) != card.tensors_digest:
        raise DeltaDamaged(
            f"{file} is not what the card of the concept {card.concept.name!r} describes: "
            f"its digest is not {card.tensors_digest}; restore it or unlearn again"
        )
    return Delta(card=card, tensors=tensors)


def load_policy_deltas(policy: Policy) -> list[Delta]:
    """The deltas of the policy's concepts, in its order.

    Raises:
        InputError: as `load_delta`, or a delta unsees another concept than the policy says.
    """
    deltas = [load_delta(Path(concept.delta)) for concept in policy.unsee]
    for named, unseen in zip(policy.unsee, (delta.card.concept for delta in deltas), strict=True):
        same_name = named.name.casefold() == unseen.name.casefold()
        if not same_name or named.category != unseen.category:
            raise InputError(
                f"the delta {named.delta} unsees the {unseen.category} {unseen.name!r}, and the "
                f"policy lists it as the {named.category} {named.name!r}; correct the policy file"
            )
    return deltas


def is_taken(folder: Path) -> bool:
    """Whether something is at `folder` already; an empty folder is nothing."""
    if not folder.is_dir() or folder.is_symlink():
        return os.path.lexists(folder)
    return any(folder.iterdir())


def check_writable(folder: Path, *, force: bool) -> None:
    """Raise `InputError` unless `save_delta` could write `folder`: see there."""
    if folder.resolve() in (Path.cwd(), *Path.cwd().parents):
        raise InputError(
            f"{folder} is the folder that this command runs in, or one above it, and a delta's "
            "folder is replaced as a whole; choose another output"
        )
    if not is_taken(folder):
        return
    if folder.is_symlink():
        raise InputError(
            f"{folder} is a link, and a delta's folder is replaced as a whole; name the folder "
            "itself, or choose another output"
        )
    if not folder.is_dir():
        raise InputError(f"{folder} exists and is not a folder; choose another output")
    foreign = _foreign_paths(folder)
    if foreign:
        raise InputError(
            f"{folder} holds other files ({min(foreign)}) and is kept; choose another output"
        )
    if not force:
        raise InputError(f"{folder} already exists; choose another output or add --force")


def _check_is_delta(folder: Path) -> None:
    if not folder.exists():
        raise InputError(f"there is no {folder}; make a delta with `unsee unlearn`")
    if not any((folder / name).is_file() for name in (CARD_FILE, MANIFEST_FILE)):
        raise InputError(
            f"{folder} holds no delta: there is no {CARD_FILE}; make one with `unsee unlearn`"
        )


def _foreign_paths(folder: Path) -> set[str]:
    """The paths below `folder` that `save_delta` and signing never write."""
    foreign = {entry.name for entry in folder.iterdir()} - _FILES
    images = folder / IMAGES_FOLDER
    if images.is_dir() and not images.is_symlink():
        foreign.remove(IMAGES_FOLDER)
        inside = {f"{IMAGES_FOLDER}/{entry.name}" for entry in images.iterdir()}
        foreign |= {path for path in inside if not _IMAGE.fullmatch(path)}
    return foreign


def _write(delta: Delta, images: Sequence[Image.Image], folder: Path) -> None:
    write_file(folder / TENSORS_FILE, save(delta.tensors))
    if images:
        (folder / IMAGES_FOLDER).mkdir()
    for index, image in enumerate(images):
        image.save(folder / IMAGES_FOLDER / f"{index:02d}.png")
    write_card(folder, delta.card.model_dump(mode="json"))
