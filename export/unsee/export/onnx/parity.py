"""Whether an ONNX file computes what its PyTorch model computes, at several sizes.

Knows a graph's sizes and tolerance, and runs both sides on the CPU; writes nothing.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from pydantic import BaseModel, ConfigDict

from unsee.core.errors import ParityError
from unsee.export.graphs.graphs import Graph, GraphPrecision
from unsee.export.graphs.sizes import Sizes

INPUT_SEED = 20_240_714


class SizeParity(BaseModel):
    """The difference at one size: `max_abs` in the output's units, `max_rel` = max_abs / std.

    std is the standard deviation of PyTorch's output.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sizes: dict[str, int]
    max_abs: float
    max_rel: float


class ParityReport(BaseModel):
    """The differences of one graph at every size checked, and what it was allowed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tolerance: float
    unit: Literal["std", "level"]
    sizes: tuple[SizeParity, ...]

    @property
    def difference(self) -> float:
        """The largest difference at any size, in `unit`s."""
        return max(self.difference_at(size) for size in self.sizes)

    def difference_at(self, size: SizeParity) -> float:
        """The difference at one size, in `unit`s."""
        return size.max_rel if self.unit == "std" else size.max_abs


def check_parity(
    graph: Graph, model: Any, file: Path, precision: GraphPrecision = "float32"
) -> ParityReport:
    """Compare `file` with `model`, float32, at the traced and the checked sizes of `graph`.

    Raises `ParityError` above the graph's tolerance for the file's `precision`, or where the file
    cannot be run at a size.
    """
    tolerance = graph.tolerances[precision]
    session = _session(graph, file)
    wrapper = graph.wrap(model)
    results = tuple(
        _compare(graph, wrapper, session, sizes)
        for sizes in (graph.traced_sizes, *graph.checked_sizes)
    )
    report = ParityReport(tolerance=tolerance.limit, unit=tolerance.unit, sizes=results)
    for size in results:
        difference = report.difference_at(size)
        if not difference <= report.tolerance:
            raise ParityError(
                f"the exported {graph.name} differs from PyTorch by {difference:.3g} {report.unit} "
                f"at {_words(size.sizes)}, and {report.tolerance:g} is allowed; it was not kept"
            )
    return report


def _session(graph: Graph, file: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ParityError(
            f"ONNX Runtime cannot open the exported {graph.name}: {_first_line(error)}"
        ) from error


def _compare(graph: Graph, wrapper: torch.nn.Module, session: Any, sizes: Sizes) -> SizeParity:
    inputs = graph.example_inputs(sizes, seed=INPUT_SEED)
    with torch.no_grad():
        expected = wrapper(*inputs).numpy()
    feeds = {spec.name: x.numpy() for spec, x in zip(graph.inputs, inputs, strict=True)}
    try:
        actual = session.run([graph.outputs[0].name], feeds)[0]
    except Exception as error:
        raise ParityError(
            f"the exported {graph.name} cannot be run at {_words(sizes)}: {_first_line(error)}"
        ) from error
    return _difference(expected, actual, sizes)


def _difference(expected: npt.NDArray[Any], actual: npt.NDArray[Any], sizes: Sizes) -> SizeParity:
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        raise ParityError(
            f"an exported graph gives {actual.dtype} {list(actual.shape)} where PyTorch gives "
            f"{expected.dtype} {list(expected.shape)}, at {_words(sizes)}"
        )
    reference = expected.astype(np.float64)
    max_abs = float(np.abs(reference - actual.astype(np.float64)).max())
    std = float(reference.std())
    max_rel = max_abs / std if std else (0.0 if max_abs == 0 else float("inf"))
    return SizeParity(sizes=dict(sizes), max_abs=max_abs, max_rel=max_rel)


def _words(sizes: Sizes) -> str:
    return ", ".join(f"{axis} = {size}" for axis, size in sizes.items())


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
