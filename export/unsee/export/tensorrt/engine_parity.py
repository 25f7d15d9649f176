"""Whether an engine computes what its PyTorch model computes in float32, on the same device.

Knows a graph's sizes and tolerances and any function with the graph's signature, so it needs no
TensorRT itself; writes nothing.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from unsee.core.errors import ParityError
from unsee.export.graphs.graphs import Graph, GraphPrecision
from unsee.export.graphs.sizes import Profile, Sizes
from unsee.export.onnx.parity import INPUT_SEED, ParityReport, SizeParity

RunEngine = Callable[..., Tensor]


def engine_parity(
    graph: Graph,
    model: Any,
    run: RunEngine,
    profile: Profile,
    precision: GraphPrecision,
    device: torch.device,
) -> ParityReport:
    """Compare `run` with `model` (float32, moved to `device`) at the least and usual sizes.

    Raises `ParityError` above the graph's tolerance for `precision`, or for another shape or dtype
    than PyTorch's. TF32 is off on PyTorch's side.
    """
    tolerance = graph.tolerances[precision]
    wrapper = graph.wrap(model).to(device)
    sizes = tuple(
        _compare(graph, wrapper, run, at, device) for at in (profile.minimum, profile.optimum)
    )
    report = ParityReport(tolerance=tolerance.limit, unit=tolerance.unit, sizes=sizes)
    for size in report.sizes:
        difference = report.difference_at(size)
        if not difference <= report.tolerance:
            raise ParityError(
                f"the engine of {graph.name} differs from PyTorch by {difference:.3g} "
                f"{report.unit}, and {report.tolerance:g} is allowed; do not serve it (float16 "
                "overflows in some models: build it with --precision float32)"
            )
    return report


def _compare(
    graph: Graph, wrapper: torch.nn.Module, run: RunEngine, sizes: Sizes, device: torch.device
) -> SizeParity:
    inputs = tuple(x.to(device) for x in graph.example_inputs(sizes, seed=INPUT_SEED))
    with torch.no_grad(), _no_tf32():
        expected = wrapper(*inputs)
    actual = run(*inputs)
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        raise ParityError(
            f"the engine of {graph.name} gives {actual.dtype} {list(actual.shape)} where PyTorch "
            f"gives {expected.dtype} {list(expected.shape)}"
        )
    reference = expected.double()
    max_abs = float((reference - actual.double()).abs().max())
    std = float(reference.std(correction=0))
    max_rel = max_abs / std if std else (0.0 if max_abs == 0 else float("inf"))
    return SizeParity(sizes=dict(sizes), max_abs=max_abs, max_rel=max_rel)


def _no_tf32() -> Any:
    """PyTorch's convolutions in full float32; its matrix products are so by default."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
