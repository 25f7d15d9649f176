"""Builds the TensorRT engine of an exported graph, on the machine and GPU where it will run.

Precision is in the graph: the network is strongly typed (the only kind from TensorRT 11 on), and no
flag changes a type. TF32 is off, so that a float32 graph is computed in float32. Knows TensorRT's
builder (10.1 and later); keeps nothing (see `engine_key`).
"""

import importlib
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unsee.core.errors import EngineBuildFailed, TensorRTMissing
from unsee.export.graphs.graphs import Graph
from unsee.export.graphs.sizes import Profile
from unsee.export.tensorrt.audit import audit_model, load_graph
from unsee.export.tensorrt.engine_key import Device
from unsee.export.tensorrt.prepare import prepare
from unsee.export.tensorrt.profiles import input_ranges

_DRIVER_QUERY = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
_REASONS_SHOWN = 3


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
    import torch

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
    trt = tensorrt_library()
    started = time.perf_counter()
    builder = trt.Builder(trt.Logger(trt.Logger.WARNING))
    network = _parsed(trt, builder, graph, file)
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


def _parsed(trt: Any, builder: Any, graph: Graph, file: Path) -> Any:
    """The network of `file`; external weights are found beside it."""
    model = load_graph(file)
    prepare(model)
    problems = audit_model(model).problems
    if problems:
        raise _refused(graph, "the audit of its nodes", [str(problem) for problem in problems])
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
        raise TensorRTMissing(f"nvidia-smi does not tell the driver's version: {error}") from error
    return answer.stdout.split()[0]
