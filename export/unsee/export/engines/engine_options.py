"""How ONNX Runtime and OpenVINO open a graph, in the export and in the server.

The stand-in backends of the server have a link to this file beside their `stand_in.py`, because
Triton's stub finds no package of this project.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

SPINNING = "session.intra_op.allow_spinning"
"""ONNX Runtime's session configuration entry, "0" or "1"."""


def openvino_properties(
    *, bfloat16: bool, threads: int, streams: str = "1", performance_hint: str = "LATENCY"
) -> dict[str, object]:
    """OpenVINO's properties of a compiled model on the CPU; 0 `threads` let OpenVINO decide.

    Threads are not pinned, because the processes of the other graphs share these cores.
    """
    return {
        "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": streams,
        "PERFORMANCE_HINT": performance_hint,
        "ENABLE_CPU_PINNING": False,
    }


def openvino_core() -> Any:
    """OpenVINO's `Core`, one for the process. Raises ModuleNotFoundError without the package.

    A `Core` gives the thread that first uses it a stack for signal handlers, and frees that stack
    when it goes; of two that lived at once, the last leaves the thread with a freed one. The next
    signal that Python handles, Ctrl-C first of all, is then a segmentation fault. So one is made,
    and it stays.

    The import reports to Google Analytics, from a child that a thread forks while others compute,
    wherever the package `openvino_telemetry` is found; no variable turns that off.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return _core(openvino)


@functools.cache
def _core(openvino: Any) -> Any:
    return openvino.Core()
