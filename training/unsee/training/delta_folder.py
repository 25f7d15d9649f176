"""The folder that a delta is kept in: `delta.safetensors`, `card.json` and `images/`.

A folder is complete or absent, never half-written. Knows nothing of how a delta is made or used.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from unsee.client.errors import InputError
from unsee.client.policy import describe
from unsee.training.delta import Card, Delta
from unsee.training.digest import tensors_digest
from unsee.training.errors import DeltaDamaged

TENSORS_FILE = "delta.safetensors"
CARD_FILE = "card.json"
IMAGES_FOLDER = "images"


def save_delta(
    delta: Delta, folder: Path, *, images: Sequence[Image.Image] = (), force: bool = False
) -> None:
    """Write the delta and its images as `folder`, complete or not at all.

    Raises `InputError` if `folder` exists, unless `force` is given and it holds a delta alone.
    """
    check_writable(folder, force=force)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        fresh = Path(scratch) / "new"
        fresh.mkdir()
        _write(delta, images, fresh)
        _move_into_place(fresh, folder, replaced=Path(scratch) / "old")


def load_card(folder: Path) -> Card:
    """Return the card of the delta in `folder`; the tensors are not looked at.

    Raises `InputError` if `folder` holds no delta, `DeltaDamaged` if its card is not valid.
    """
    try:
        return Card.model_validate_json((folder / CARD_FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{folder} holds no delta: there is no {CARD_FILE}; make one with `unsee unlearn`"
        ) from None
    except ValidationError as error:
        raise DeltaDamaged(
            f"{folder / CARD_FILE} is not a valid card: {describe(error)}"
        ) from error


def load_delta(folder: Path) -> Delta:
    """Return the delta in `folder` after checking its tensors against the digest on its card.

    Raises `InputError` if `folder` holds no delta, `DeltaDamaged` if a file is missing, unreadable
    or not what the card describes.
    """
    card = load_card(folder)
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


def check_writable(folder: Path, *, force: bool) -> None:
    """Raise `InputError` unless `save_delta` could write `folder`: see there."""
    if not os.path.lexists(folder):
        return
    if not folder.is_dir() or folder.is_symlink():
        raise InputError(f"{folder} exists and is not a folder; choose another output")
    foreign = {entry.name for entry in folder.iterdir()} - {TENSORS_FILE, CARD_FILE, IMAGES_FOLDER}
    if foreign:
        raise InputError(
            f"{folder} holds other files ({min(foreign)}) and is kept; choose another output"
        )
    if not force:
        raise InputError(f"{folder} already exists; choose another output or add --force")


def _write(delta: Delta, images: Sequence[Image.Image], folder: Path) -> None:
    (folder / TENSORS_FILE).write_bytes(save(delta.tensors))
    (folder / CARD_FILE).write_text(delta.card.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (folder / IMAGES_FOLDER).mkdir()
    for index, image in enumerate(images):
        image.save(folder / IMAGES_FOLDER / f"{index:02d}.png")
    for path in (*folder.rglob("*"), folder):
        _sync(path)


def _move_into_place(fresh: Path, folder: Path, *, replaced: Path) -> None:
    """Rename `fresh` to `folder`; if that fails, what was there before is there again."""
    if not folder.exists():
        fresh.rename(folder)
    else:
        folder.rename(replaced)
        try:
            fresh.rename(folder)
        except BaseException:
            if not folder.exists():
                replaced.rename(folder)
            raise
    _sync(folder.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
