"""Checkpoints without pickles: tensors in safetensors, the rest in JSON.

A checkpoint is a folder that appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from unsee.core.files import UNFINISHED, new_folder, remove_folder

STALE_S = 3600.0  # no checkpoint takes as long to write


def flatten_optimizer(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """``optimizer.state_dict()["state"]`` as one flat mapping of tensors."""
    return {
        f"{index}.{key}": torch.as_tensor(value)
        for index, slots in state["state"].items()
        for key, value in slots.items()
    }


def unflatten_optimizer(
    tensors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """The state dict that ``optimizer.load_state_dict`` takes."""
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        slots.setdefault(int(index), {})[key] = tensor
    return {"state": slots, "param_groups": optimizer.state_dict()["param_groups"]}


def write_folder(
    folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], record: Mapping[str, Any]
) -> None:
    """Writes ``<name>.safetensors`` for each entry and ``record.json``, all or nothing."""
    with new_folder(folder, replace=True) as partial:
        for name, entries in tensors.items():
            detached = {k: v.detach().contiguous().clone() for k, v in entries.items()}
            save_file(detached, partial / f"{name}.safetensors")
        (partial / "record.json").write_text(json.dumps(record, indent=1))


def recover(folder: Path) -> None:
    """Undoes what a process left that died while it wrote ``folder``.

    A last checkpoint that had just made way is put back; what was half-written is removed, once it
    is old enough to belong to nobody.
    """
    for aside in sorted(folder.parent.glob(f"{UNFINISHED}*-old")):
        record = aside / "record.json"
        if folder.exists() or not record.exists():
            continue
        if json.loads(record.read_text()).get("task") == folder.name:
            aside.rename(folder)
    for leftover in folder.parent.glob(f"{UNFINISHED}*"):
        if time.time() - leftover.stat().st_mtime > STALE_S:
            remove_folder(leftover)


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values, in the order of the names."""
    hashed = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().contiguous()
        hashed.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        hashed.update(value.numpy().tobytes())
    return hashed.hexdigest()


def read_folder(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    tensors = {path.stem: load_file(path) for path in sorted(folder.glob("*.safetensors"))}
    record: dict[str, Any] = json.loads((folder / "record.json").read_text())
    return tensors, record
