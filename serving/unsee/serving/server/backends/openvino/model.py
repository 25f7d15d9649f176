"""A Triton backend named `openvino`, written in Python: the stand-in for NVIDIA's C++ backend.

As with `onnxruntime`, this file makes configurations that name `backend: "openvino"` load in the
Triton of the `nvidia-pytriton` wheel, on the CPU. It knows OpenVINO and its properties; how
requests become arrays and back is in `stand_in`.

Honoured from the configuration: `default_model_filename` (ONNX or OpenVINO's own format) and the
parameters `HINT_BF16` (YES or NO), `INFERENCE_NUM_THREADS` (default: the environment's
UNSEE_THREADS), `NUM_STREAMS` and `PERFORMANCE_HINT` of NVIDIA's backend, and two of our own:

- `STATIC_SHAPES=n` compiles the graph for a request's exact input shapes when they are first seen
  and keeps the n that were used last; 0, the default, compiles it once for all shapes.
- `WARM_UP_SHAPES`, a JSON object with the shape of every input: the graph is run once with them
  before the model counts as ready. Triton's `model_warmup` cannot: its requests have one row.
"""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine_options import openvino_core, openvino_properties
from stand_in import (
    Array,
    Feeds,
    LoadRefused,
    Session,
    StandIn,
    one_of,
    thread_count,
    whole_number,
)

LOGGER = logging.getLogger("unsee.openvino")
DEVICE = "CPU"

Shapes = tuple[tuple[int, ...], ...]


class OpenVINOSession:
    """A graph in OpenVINO's CPU plugin, compiled once or for each of the shapes used last.

    Requests are never joined: each gives the same bytes whoever else asks, and no more shapes have
    to be compiled than requests have.
    """

    joins_requests = False

    def __init__(self, path: Path, properties: Mapping[str, Any], num_static_shapes: int) -> None:
        self._core = openvino_core()
        self._properties = dict(properties)
        self._model = self._core.read_model(path)
        self._num_static_shapes = num_static_shapes
        self._compiled: OrderedDict[Shapes | None, Any] = OrderedDict()
        self.inputs = [port.any_name for port in self._model.inputs]
        self.outputs = [port.any_name for port in self._model.outputs]
        if not num_static_shapes:
            self._infer_request(None)

    def run(self, feeds: Feeds) -> list[Array]:
        """The outputs in order; compiles first where these shapes are new."""
        shapes = tuple(feeds[name].shape for name in self.inputs)
        infer_request = self._infer_request(shapes if self._num_static_shapes else None)
        outputs = infer_request.infer(feeds)
        return [outputs[name] for name in self.outputs]

    def warm_up(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Run once with zeros of these shapes; raises LoadRefused unless each input has one."""
        if set(shapes) != set(self.inputs):
            raise LoadRefused(
                f"WARM_UP_SHAPES gives shapes of {sorted(shapes)}, the graph has {self.inputs}"
            )
        dtypes = {port.any_name: port.element_type.to_dtype() for port in self._model.inputs}
        self.run({name: np.zeros(shape, dtypes[name]) for name, shape in shapes.items()})

    def _infer_request(self, shapes: Shapes | None) -> Any:
        if shapes not in self._compiled:
            self._compiled[shapes] = self._compile(shapes)
            if len(self._compiled) > max(1, self._num_static_shapes):
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(shapes)
        return self._compiled[shapes]

    def _compile(self, shapes: Shapes | None) -> Any:
        model = self._model
        if shapes is not None:
            model = model.clone()
            model.reshape(dict(zip(self.inputs, shapes, strict=True)))
        compiled = self._core.compile_model(model, DEVICE, self._properties)
        return compiled.create_infer_request()


class TritonPythonModel(StandIn):
    """One instance of one version of one model."""

    runtime = "OpenVINO"

    def open_session(self, path: Path, parameters: Mapping[str, str]) -> Session:
        """Open the graph on the CPU; raises LoadRefused for a parameter that does not fit."""
        properties = compile_properties(parameters)
        num_static_shapes = whole_number(parameters, "STATIC_SHAPES", 0)
        warm_up_shapes = shapes_of(parameters, "WARM_UP_SHAPES")
        try:
            core = openvino_core()
        except ModuleNotFoundError:
            raise LoadRefused(
                'the package openvino is not installed; install with: pip install "unsee[serve]"'
            ) from None
        capabilities = core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
        if properties["INFERENCE_PRECISION_HINT"] == "bf16" and "BF16" not in capabilities:
            LOGGER.warning("%s: this CPU has no bfloat16 units; float32 is used", path.parent)
        session = OpenVINOSession(path, properties, num_static_shapes)
        if warm_up_shapes is not None:
            session.warm_up(warm_up_shapes)
        return session


def compile_properties(parameters: Mapping[str, str]) -> dict[str, Any]:
    """OpenVINO's properties; raises LoadRefused naming the parameter that does not fit."""
    bfloat16 = one_of(parameters, "HINT_BF16", ("YES", "NO"), "NO") == "YES"
    streams = parameters.get("NUM_STREAMS", "1")
    if streams.upper() not in ("AUTO", "NUMA"):
        streams = str(whole_number(parameters, "NUM_STREAMS", 1))
    hint = one_of(parameters, "PERFORMANCE_HINT", ("LATENCY", "THROUGHPUT"), "LATENCY")
    threads = thread_count(parameters, "INFERENCE_NUM_THREADS")
    return openvino_properties(
        bfloat16=bfloat16, threads=threads, streams=streams.upper(), performance_hint=hint
    )


def shapes_of(parameters: Mapping[str, str], name: str) -> dict[str, list[int]] | None:
    """The parameter as shapes by input, None if it is not there; raises LoadRefused for no JSON."""
    if name not in parameters:
        return None
    try:
        content = json.loads(parameters[name])
        return {key: [int(size) for size in shape] for key, shape in content.items()}
    except (ValueError, TypeError, AttributeError):
        raise LoadRefused(
            f"the parameter {name} must be a JSON object with a list of sizes for each input, "
            f"not {parameters[name]!r}"
        ) from None
