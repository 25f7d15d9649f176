"""The options with which ONNX Runtime and OpenVINO open a graph, in the export and in the server.

The stand-in backends of the server have a copy of this file, `engine_options.py` beside their
`stand_in.py`, because Triton's stub finds no package of this project. It imports nothing.
"""

from __future__ import annotations

SPINNING = "session.intra_op.allow_spinning"
NO_PREPACKING = "session.disable_prepacking"


def onnxruntime_entries(spinning: str, no_prepacking: str) -> dict[str, str]:
    """ONNX Runtime's session configuration entries, each "0" or "1"."""
    return {SPINNING: spinning, NO_PREPACKING: no_prepacking}


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
