"""A Triton backend named `onnxruntime`, written in Python: the stand-in for NVIDIA's C++ backend.

The Triton of the `nvidia-pytriton` wheel has only the Python backend. Put into its backends folder
as `onnxruntime/model.py`, this file makes every model configuration that names
`backend: "onnxruntime"` load there unchanged, on the CPU. It knows ONNX Runtime and its options;
how requests become arrays and back is in `stand_in`.

Honoured from the configuration: `default_model_filename`, `max_batch_size`, and the parameters
`intra_op_thread_count` and `session.intra_op.allow_spinning` of NVIDIA's backend, of which the
environment variables UNSEE_THREADS and UNSEE_ORT_SPINNING are the defaults.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime

from engine_options import SPINNING
from stand_in import Array, Feeds, Session, StandIn, thread_count


class ONNXRuntimeSession:
    """A graph in ONNX Runtime's CPU provider, in float32."""

    joins_requests = True

    def __init__(self, path: Path, options: Any) -> None:
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(path, options, providers=providers)
        self.inputs = [value.name for value in self._session.get_inputs()]
        self.outputs = [value.name for value in self._session.get_outputs()]

    def run(self, feeds: Feeds) -> list[Array]:
        """The outputs in order."""
        outputs: list[Array] = self._session.run(self.outputs, feeds)
        return outputs


class TritonPythonModel(StandIn):
    """One instance of one version of one model."""

    runtime = "ONNX Runtime"

    def open_session(self, path: Path, parameters: Mapping[str, str]) -> Session:
        """Open the graph on the CPU."""
        return ONNXRuntimeSession(path, session_options(parameters))


def session_options(parameters: Mapping[str, str]) -> Any:
    """ONNX Runtime's options; raises LoadRefused for a number of threads that is none."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = thread_count(parameters, "intra_op_thread_count")
    options.inter_op_num_threads = 1
    spinning = parameters.get(SPINNING, os.environ.get("UNSEE_ORT_SPINNING", "0"))
    options.add_session_config_entry(SPINNING, spinning)
    options.log_severity_level = 3
    return options
