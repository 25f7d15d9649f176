"""An exported graph as a function of arrays, computed by an engine in this process, on the CPU.

Knows how ONNX Runtime and OpenVINO are asked, with the options that the server's stand-in backends
use; knows neither what a graph computes nor whether it is fast.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unsee.core.errors import NotExportable
from unsee.export.engines.engine import Engine
from unsee.export.engines.model_config import NO_PREPACKING

Array = npt.NDArray[Any]
Runnable = Callable[..., Array]
Shapes = Mapping[str, Sequence[int]]

_OPENVINO_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


def open_graph(
    file: Path, engine: Engine, threads: int, shapes: Shapes, *, prepacking: bool = True
) -> Runnable:
    """`file` as a function of its inputs by name that gives its first output.

    An engine that compiles for exact shapes takes only `shapes`. ONNX Runtime without `prepacking`
    is how text encoders are served; the last bits of its output depend on it. Raises
    `NotExportable` if the engine cannot open the graph, or none in this process.
    """
    openers: dict[str, Callable[[], Runnable]] = {
        "onnxruntime": lambda: _onnxruntime(file, threads, prepacking),
        "openvino": lambda: _openvino(file, engine, threads, shapes),
    }
    if engine.name not in openers:
        raise NotExportable(f"the engine {engine} cannot be run on the CPU")
    try:
        return openers[engine.name]()
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise NotExportable(f"{engine} cannot open {file.parent.parent.name}: {reason}") from error


def _onnxruntime(file: Path, threads: int, prepacking: bool) -> Runnable:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry(NO_PREPACKING, "0" if prepacking else "1")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def run(**feeds: Array) -> Array:
        output: Array = session.run(None, feeds)[0]
        return output

    return run


def _openvino(file: Path, engine: Engine, threads: int, shapes: Shapes) -> Runnable:
    import openvino

    core = openvino.Core()
    model = core.read_model(file)
    model.reshape({name: list(shape) for name, shape in shapes.items()})
    properties = {
        "INFERENCE_PRECISION_HINT": _OPENVINO_PRECISIONS[engine.precision],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": "1",
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
    }
    request = core.compile_model(model, "CPU", properties).create_infer_request()

    def run(**feeds: Array) -> Array:
        return np.array(request.infer(feeds)[0])

    return run
