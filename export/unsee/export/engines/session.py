"""An exported graph as a function of arrays, computed by an engine in this process, on the CPU.

ONNX Runtime and OpenVINO get the options that the server's stand-in backends give them.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unsee.core.errors import NotExportable
from unsee.export.engines.engine import Engine
from unsee.export.engines.engine_options import SPINNING, openvino_core, openvino_properties

Array = npt.NDArray[Any]
Runnable = Callable[..., Any]
"""A graph as a function of its inputs by name that gives its output, several as a tuple."""
Shapes = Mapping[str, Sequence[int]]


def open_graph(file: Path, engine: Engine, threads: int, shapes: Shapes) -> Runnable:
    """`file` as a function.

    An engine that compiles for exact shapes takes only `shapes`. Raises `NotExportable` if the
    engine cannot open the graph, or none in this process.
    """
    openers: dict[str, Callable[[], Runnable]] = {
        "onnxruntime": lambda: _onnxruntime(file, threads),
        "openvino": lambda: _openvino(file, engine, threads, shapes),
    }
    if engine.name not in openers:
        raise NotExportable(f"the engine {engine} cannot be run on the CPU")
    try:
        return openers[engine.name]()
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise NotExportable(f"{engine} cannot open {file.parent.parent.name}: {reason}") from error


def _onnxruntime(file: Path, threads: int) -> Runnable:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry(SPINNING, "0")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def run(**feeds: Array) -> Any:
        return _one_or_all(session.run(None, feeds))

    return run


def _openvino(file: Path, engine: Engine, threads: int, shapes: Shapes) -> Runnable:
    core = openvino_core()
    model = core.read_model(file)
    model.reshape({name: list(shape) for name, shape in shapes.items()})
    properties = openvino_properties(bfloat16=engine.precision == "bfloat16", threads=threads)
    request = core.compile_model(model, "CPU", properties).create_infer_request()

    def run(**feeds: Array) -> Any:
        return _one_or_all([np.array(output) for output in request.infer(feeds).values()])

    return run


def _one_or_all(outputs: Sequence[Array]) -> Any:
    return outputs[0] if len(outputs) == 1 else tuple(outputs)
