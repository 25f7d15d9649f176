"""Weights that versions of an encoder have in common: one file, on the disk and in memory.

The base's encoder keeps its weights beside the graph, in `model.onnx.data`. A revision refers to
those that are the base's (an appended layer leaves all of them as they are) and keeps only its own
in `model.onnx`; its `model.onnx.data` is a hard link to the base's. A runtime that maps the file
instead of copying weights out of it then holds them once for all versions. Each version stays whole
for whoever copies or loads it. Knows graphs and files, not what a policy is.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
from onnx.external_data_helper import ExternalDataInfo

from unsee.core.files import link_or_copy
from unsee.export.onnx.exporter import EXTERNAL_DATA_BYTES, save_in_one, weights_file

SMALL_BYTES = 1024
"""Smaller tensors stay in the graph: shapes are inferred from some of them."""

Content = tuple[int, tuple[int, ...], bytes]
"""Data type, shape and digest of a tensor."""
Place = Any
"""Where a tensor lies: onnx's `ExternalDataInfo`, with location, offset and length in bytes."""


def save_beside(model: onnx_ir.Model, file: Path) -> None:
    """Save the graph in `file` and its weights in the file beside it, which nobody may change."""
    beside = weights_file(file)
    onnx_ir.save(model, file, external_data=beside.name, size_threshold_bytes=SMALL_BYTES)
    beside.chmod(0o444)  # servers have it mapped: a change would reach them while they compute


class SharedWith:
    """The weights of the graph `shared_file`, which `save_beside` wrote, to be had in common."""

    def __init__(self, shared_file: Path) -> None:
        self._shared_file = shared_file

    def save(self, model: onnx_ir.Model, file: Path) -> None:
        """Save the graph in `file`, each weight that the shared graph has as a reference to it.

        Weights that it has not are in `file` itself; all are where it has none or is not there.
        """
        shared = self._weights()
        places: dict[onnx_ir.Value, Place] = {}
        own_bytes = 0
        for value in model.graph.initializers.values():
            tensor: Any = value.const_value
            content = _content(tensor.dtype, tensor.shape, tensor.numpy().tobytes())
            if content in shared:
                places[value] = shared[content]
            else:
                own_bytes += tensor.nbytes
        if not places or own_bytes > EXTERNAL_DATA_BYTES:
            save_in_one(model, file)
            return
        link_or_copy(weights_file(self._shared_file), weights_file(file))
        for value, place in places.items():
            value.const_value = _reference(place, value, file.parent)
        onnx_ir.save(model, file)

    def _weights(self) -> dict[Content, Place]:
        """Where each weight lies. Read without onnx's loader, which refuses files with links."""
        try:
            tensors = onnx.load(self._shared_file, load_external_data=False).graph.initializer
            data = np.memmap(weights_file(self._shared_file), mode="r")
        except FileNotFoundError:
            return {}
        found = {}
        for tensor in tensors:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                place = ExternalDataInfo(tensor)
                raw = data[place.offset : place.offset + place.length].data
                found[_content(tensor.data_type, tensor.dims, raw)] = place
        return found


def _content(data_type: int, shape: Iterable[Any], data: Any) -> Content:
    return (data_type, tuple(int(size) for size in shape), hashlib.sha256(data).digest())


def _reference(place: Place, value: onnx_ir.Value, folder: Path) -> onnx_ir.ExternalTensor:
    tensor: Any = value.const_value
    return onnx_ir.ExternalTensor(
        place.location,
        place.offset,
        place.length,
        tensor.dtype,
        shape=tensor.shape,
        name=tensor.name,
        base_dir=folder,
    )
