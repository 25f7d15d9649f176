"""Checkpoints without pickles: tensors in safetensors, the rest in JSON.

A checkpoint is a folder that appears whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from unsee.core.files import new_folder


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


def read_folder(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    tensors = {path.stem: load_file(path) for path in sorted(folder.glob("*.safetensors"))}
    record: dict[str, Any] = json.loads((folder / "record.json").read_text())
    return tensors, record
