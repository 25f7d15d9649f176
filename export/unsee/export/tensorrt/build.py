"""Builds the TensorRT engine of an exported graph on the machine that serves it, and runs it.

Precision is in the graph: the network is strongly typed (the only kind from TensorRT 11 on), and no
flag changes a type. TF32 is off, so that a float32 graph is computed in float32. Needs TensorRT
10.1 or later, which is imported when it is used.
"""

import importlib
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor

from unsee.core.errors import EngineBuildFailed, TensorRTMissing
from unsee.core.validation import ClosedModel
from unsee.export.graphs.graphs import Graph
from unsee.export.graphs.sizes import Profile
from unsee.export.tensorrt.audit import audit_model, load_graph
from unsee.export.tensorrt.prepare import prepare
from unsee.export.tensorrt.profiles import input_ranges

_DRIVER_QUERY = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
_REASONS_SHOWN = 3
_DTYPES = {"FP32": torch.float32, "INT64": torch.int64, "UINT8": torch.uint8}


class Device(ClosedModel):
    """Where an engine runs: a GPU's name and compute capability (`"9.0"`), driver and library."""

    gpu: str
    compute_capability: str
    driver: str
    tensorrt: str


@dataclass(frozen=True)
class BuiltEngine:
    """A serialised engine, what its builder measured on the way, and how long it took."""

    plan: bytes
    timings: bytes
    seconds: float


def tensorrt_library() -> Any:
    """The module `tensorrt`. Raises `TensorRTMissing` if it is not installed."""
    try:
        return importlib.import_module("tensorrt")
    except ImportError as error:
        raise TensorRTMissing(
            "TensorRT is not installed here; on the machine with the NVIDIA GPU run: pip install "
            "tensorrt (of the very version that your Triton container has)"
        ) from error


def current_device() -> Device:
    """The GPU that PyTorch uses, its driver and TensorRT. Raises `TensorRTMissing` without them."""
    library = tensorrt_library()
    if not torch.cuda.is_available():
        raise TensorRTMissing(
            "PyTorch finds no NVIDIA GPU here; engines are built on the machine that serves them, "
            "with a PyTorch that has CUDA (torch.cuda.is_available() must be true)"
        )
    major, minor = torch.cuda.get_device_capability()
    return Device(
        gpu=torch.cuda.get_device_name(),
        compute_capability=f"{major}.{minor}",
        driver=_driver(),
        tensorrt=library.__version__,
    )


def build_engine(graph: Graph, file: Path, profile: Profile, timings: bytes = b"") -> BuiltEngine:
    """Build the engine of the ONNX file `file`, which is `graph`, for the sizes of `profile`.

    `timings` of an earlier build on the same device make it faster. Raises `EngineBuildFailed` with
    the first reasons if the graph is refused, `ProfileError` for sizes that it does not have,
    `TensorRTMissing` without the library.
    """
    ranges = input_ranges(graph, profile)
    model = _prepared(graph, file)
    trt = tensorrt_library()
    started = time.perf_counter()
    builder = trt.Builder(trt.Logger(trt.Logger.WARNING))
    network = _parsed(trt, builder, graph, model, file)
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    cache = config.create_timing_cache(timings)
    config.set_timing_cache(cache, ignore_mismatch=False)
    shapes = builder.create_optimization_profile()
    for name, shape in ranges.items():
        shapes.set_shape(name, shape.minimum, shape.optimum, shape.maximum)
    config.add_optimization_profile(shapes)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineBuildFailed(
            f"TensorRT {trt.__version__} parsed {graph.name} and then made no engine of it; its "
            "log above says why (memory is the usual reason: build for smaller sizes)"
        )
    measured = bytes(config.get_timing_cache().serialize())
    return BuiltEngine(bytes(plan), measured, time.perf_counter() - started)


class EngineRunner:
    """An engine as a function of its inputs, in the graph's order; tensors are on the GPU.

    It runs on the current stream and returns before the GPU has finished. The library's objects
    must outlive the engine, so they are kept.
    """

    def __init__(self, graph: Graph, plan: bytes) -> None:
        """Raises `EngineBuildFailed` if TensorRT does not load `plan`, `TensorRTMissing` without
        the library."""
        library = tensorrt_library()
        self._graph = graph
        self._runtime = library.Runtime(library.Logger(library.Logger.WARNING))
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineBuildFailed(
                f"TensorRT {library.__version__} does not load the engine of {graph.name}; build "
                "it again on this machine"
            )
        self._context: Any = self._engine.create_execution_context()

    def __call__(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The graph's output, several as a tuple; inputs have the dtypes of the graph's border."""
        kept = [
            tensor.to(_DTYPES[spec.data_type]).contiguous()
            for spec, tensor in zip(self._graph.inputs, inputs, strict=True)
        ]
        for spec, tensor in zip(self._graph.inputs, kept, strict=True):
            if not self._context.set_input_shape(spec.name, tuple(tensor.shape)):
                raise EngineBuildFailed(
                    f"the engine of {self._graph.name} was not built for {spec.name} of the shape "
                    f"{list(tensor.shape)}"
                )
            self._context.set_tensor_address(spec.name, tensor.data_ptr())
        outputs = []
        for spec in self._graph.outputs:
            shape = tuple(self._context.get_tensor_shape(spec.name))
            output = torch.empty(shape, dtype=_DTYPES[spec.data_type], device=kept[0].device)
            self._context.set_tensor_address(spec.name, output.data_ptr())
            outputs.append(output)
        stream = torch.cuda.current_stream(kept[0].device).cuda_stream
        if not self._context.execute_async_v3(stream):
            raise EngineBuildFailed(f"the engine of {self._graph.name} did not run")
        return outputs[0] if len(outputs) == 1 else tuple(outputs)


def _prepared(graph: Graph, file: Path) -> onnx.ModelProto:
    """The model in `file`, rewritten for TensorRT's parser. Raises `EngineBuildFailed`."""
    model = load_graph(file)
    prepare(model)
    problems = audit_model(model)
    if problems:
        raise _refused(graph, "the audit of its nodes", [str(problem) for problem in problems])
    return model


def _parsed(trt: Any, builder: Any, graph: Graph, model: onnx.ModelProto, file: Path) -> Any:
    """The network of `model`; external weights are found beside `file`."""
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.WARNING))
    if not parser.parse(model.SerializeToString(), str(file)):
        reasons = [str(parser.get_error(place).desc()) for place in range(parser.num_errors)]
        raise _refused(graph, f"the parser of TensorRT {trt.__version__}", reasons)
    return network


def _refused(graph: Graph, by: str, reasons: list[str]) -> EngineBuildFailed:
    shown = "; ".join(reasons[:_REASONS_SHOWN])
    more = f"; and {len(reasons) - _REASONS_SHOWN} more" if len(reasons) > _REASONS_SHOWN else ""
    return EngineBuildFailed(
        f"{by} refuses {graph.name}: {shown}{more}; serve it with --engine onnxruntime"
    )


def _driver() -> str:
    try:
        answer = subprocess.run(_DRIVER_QUERY, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise TensorRTMissing(f"nvidia-smi does not say which driver this is: {error}") from error
    return answer.stdout.split()[0]
