"""How much memory an exported graph's activations take at sizes at which nobody runs it.

ONNX Runtime reports the size of every value of a run. Run at a few small sizes, each value shows
with which power of the frames and of the pixels it grows, so its size at any other is known, and
the order of the nodes says which values are there at the same time. An attention's scores, which
grow with the square of the pixels, are small where anybody measures and most of it at the limits.
"""

import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unsee.export.graphs.sizes import Sizes

AXES = (("F",), ("h", "w"))
"""Frames and pixels: the axes that vary, the two sides of a frame together."""
VIEWS = frozenset({"Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators whose output is their input's own memory."""
_EVENT = "_kernel_time"

Feeds = Callable[[Sizes], Mapping[str, Any]]
"""The graph's inputs by name, at given sizes."""


@dataclass(frozen=True)
class _Value:
    """The output of a node: its bytes at the smallest sizes, and how they grow with each axis."""

    num_bytes: int
    powers: tuple[float, ...]

    def at(self, factors: Sequence[float]) -> float:
        growth = (factor**power for factor, power in zip(factors, self.powers, strict=True))
        num_bytes: float = self.num_bytes * math.prod(growth)
        return num_bytes


def peak_activations(file: Path, feeds: Feeds, small: Sizes, wanted: Sizes) -> int:
    """The most bytes that the values of a graph take together in one call of `wanted` sizes.

    The graph is run at `small` sizes and at twice each of `AXES`; other axes are as in `small`, so
    they must be the same in `wanted`. What kernels allocate for themselves is not counted, and
    engines that fuse attention take less.
    """
    runs = [_sizes_of_values(file, feeds(_doubled(small, axes))) for axes in ((), *AXES)]
    factors = [_product(wanted, axes) / _product(small, axes) for axes in AXES]
    doublings = [2 ** len(axes) for axes in AXES]
    values = {
        name: _Value(
            size,
            tuple(
                math.log(run[name] / size, doubling) if size and run[name] else 0.0
                for run, doubling in zip(runs[1:], doublings, strict=True)
            ),
        )
        for name, size in runs[0].items()
    }
    return round(_peak(file, {name: value.at(factors) for name, value in values.items()}))


def _peak(file: Path, sizes: Mapping[str, float]) -> float:
    """The most that values take together; `sizes` by the name of the node that makes them."""
    import onnx

    nodes = onnx.load(file, load_external_data=False).graph.node
    last = {name: index for index, node in enumerate(nodes) for name in node.input}
    there: dict[str, float] = {}
    total = peak = 0.0
    for index, node in enumerate(nodes):
        ending = {name for name in node.input if last[name] == index and name in there}
        if node.op_type in VIEWS:
            total -= sum(there.pop(name) for name in ending)
            ending = set()
        there[node.output[0]] = sizes.get(node.name, 0.0)
        total += there[node.output[0]]
        peak = max(peak, total)
        total -= sum(there.pop(name) for name in ending)
    return peak


def _sizes_of_values(file: Path, feeds: Mapping[str, Any]) -> dict[str, int]:
    """Bytes of what each node of the graph makes, by the node's name."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.enable_profiling = True
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with tempfile.TemporaryDirectory(prefix="unsee-activations-") as folder:
        options.profile_file_prefix = str(Path(folder) / "run")
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        session.run(None, dict(feeds))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return {
        event["name"].removesuffix(_EVENT): int(event["args"]["output_size"])
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith(_EVENT)
    }


def _doubled(sizes: Sizes, axes: Sequence[str]) -> Sizes:
    return {name: size * (2 if name in axes else 1) for name, size in sizes.items()}


def _product(sizes: Sizes, axes: Sequence[str]) -> int:
    """Of a graph that lacks an axis, such as a decoder of single latent frames, that is 1."""
    return math.prod(sizes.get(axis, 1) for axis in axes)
