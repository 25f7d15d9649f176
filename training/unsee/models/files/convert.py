"""Pickled weights as safetensors: nothing in the pickle is run."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unsee.core.errors import BaseFolderError, InputError
from unsee.core.files import new_file
from unsee.models.files.weights import writing

_PICKLED = re.compile(r"(?P<stem>pytorch_model|diffusion_pytorch_model)(?P<variant>\.[^.]+?)?\.bin")
_SHARDS = re.compile(r"(?P<stem>pytorch_model|diffusion_pytorch_model)\.bin\.index"
                     r"(?P<variant>\.[^.]+)?\.json")  # fmt: skip
_STEMS = {"pytorch_model": "model", "diffusion_pytorch_model": "diffusion_pytorch_model"}


def convert_weights(folder: Path) -> tuple[Path, ...]:
    """Write safetensors beside the pickled weights in `folder` and the folders below it.

    The pickles are read as tensors alone (`weights_only`) and stay; shards become one file. What
    has a safetensors file already is left alone. Returns the files written.

    Raises:
        InputError: there is no such folder, or nothing in it to convert.
        BaseFolderError: a file holds something else than tensors, or a shard is missing.
        FileNotWritable: the disk is full.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; name a model's or a component's folder")
    found = list(_pickled(folder))
    if not found:
        raise InputError(f"neither {folder} nor a folder in it holds pickled weights (*.bin)")
    written = []
    for target, sources in found:
        if not target.exists():
            _write(target, sources)
            written.append(target)
    return tuple(written)


def _pickled(folder: Path) -> Iterator[tuple[Path, list[Path]]]:
    for file in sorted(folder.rglob("*")):
        if match := _SHARDS.fullmatch(file.name):
            yield _target(file, match), _shards(file)
        elif (match := _PICKLED.fullmatch(file.name)) and not re.search(r"-\d{5}-of", file.name):
            yield _target(file, match), [file]


def _target(file: Path, match: re.Match[str]) -> Path:
    return file.with_name(f"{_STEMS[match['stem']]}{match['variant'] or ''}.safetensors")


def _shards(index: Path) -> list[Path]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise BaseFolderError(f"{index} is no index of weights; download it again") from error
    return [index.parent / str(name) for name in sorted(names)]


def _write(target: Path, sources: list[Path]) -> None:
    from safetensors.torch import save_file

    tensors: dict[str, Any] = {}
    for source in sources:
        tensors |= _tensors(source)
    with writing(target), new_file(target) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})


def _tensors(file: Path) -> dict[str, Any]:
    import torch

    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise BaseFolderError(f"{file} is missing; download it") from None
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BaseFolderError(
            f"{file} cannot be read as tensors alone, and is not run: {reason}; "
            "get the weights as safetensors from where they came"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(
        isinstance(v, torch.Tensor) for v in content.values()
    ):
        raise BaseFolderError(
            f"{file} holds other things than tensors; get the weights as safetensors"
        )
    return {str(name): tensor.contiguous().clone() for name, tensor in content.items()}
