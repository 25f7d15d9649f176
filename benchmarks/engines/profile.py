"""On which kinds of layers OpenVINO spends the time of a call, by its own profiling.

Profiling costs some time itself, so the result is shares and not seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unsee.export.engines.engine_options import openvino_core
from unsee.export.engines.measurement import Feeds

CALLS = 3
LARGEST = 8
_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


def layer_shares(file: Path, precision: str, threads: int, feeds: Feeds) -> dict[str, float]:
    """The share of a call's time by kind of layer, the largest first, and `"others"`.

    The graph is compiled for the shapes of `feeds` exactly.
    """
    core = openvino_core()
    model = core.read_model(file)
    model.reshape({name: list(array.shape) for name, array in feeds.items()})
    properties = {
        "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": "1",
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
        "PERF_COUNT": True,
    }
    request = core.compile_model(model, "CPU", properties).create_infer_request()
    taken: Counter[str] = Counter()
    for call in range(1 + CALLS):
        request.infer(dict(feeds))
        if call:
            taken.update(_by_kind(request.profiling_info))
    return largest_shares(taken, LARGEST)


def largest_shares(taken: Counter[str], count: int) -> dict[str, float]:
    """Shares of the total by kind: the `count` largest, and the rest as `"others"`."""
    total = sum(taken.values())
    shares = {kind: value / total for kind, value in taken.most_common(count)}
    return shares | {"others": 1 - sum(shares.values())}


def _by_kind(layers: Iterable[Any]) -> Counter[str]:
    taken: Counter[str] = Counter()
    for layer in layers:
        taken[layer.node_type] += round(layer.real_time.total_seconds() * 1e6)
    return taken
