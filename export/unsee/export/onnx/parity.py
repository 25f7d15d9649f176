"""Whether an exported graph computes what its PyTorch model computes, at several sizes."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor

from unsee.core.errors import ParityError, first_line
from unsee.export.graphs.graphs import CARRIED, Graph, Tolerance
from unsee.export.graphs.sizes import Sizes
from unsee.export.onnx.half import copy_in
from unsee.repository.records import GraphPrecision, ParityReport, SizeParity

INPUT_SEED = 20_240_714
_CPU = torch.device("cpu")

RunGraph = Callable[..., Tensor | tuple[Tensor, ...]]
"""A graph as a function of its inputs in order that gives its output, several as a tuple."""


def check_parity(
    graph: Graph, model: Any, file: Path, precision: GraphPrecision = "float32"
) -> ParityReport:
    """Compare `file` with `model`, float32, at the traced and the checked sizes of `graph`.

    Raises `ParityError` above the graph's tolerance for the file's `precision`, or where the file
    cannot be run at a size.
    """
    name = f"the exported {graph.name}"
    run = _in_onnxruntime(graph, file)
    return compare(name, graph, model, run, (graph.traced_sizes, *graph.checked_sizes), precision)


def compare(
    name: str,
    graph: Graph,
    model: Any,
    run: RunGraph,
    sizes: Iterable[Sizes],
    precision: GraphPrecision,
    device: torch.device = _CPU,
    advice: str = "it was not kept",
) -> ParityReport:
    """Compare `run`, called `name` in sentences, with `model` (float32, moved to `device`).

    `run` takes the graph's inputs as tensors on `device`. PyTorch computes without TF32. The report
    is of the first output; others are held to `CARRIED`. Raises `ParityError`, which ends in
    `advice`, above the graph's tolerance for `precision` unless PyTorch's own rounding is as large
    (`ParityReport.allowed_at`), or for another shape or dtype than PyTorch's.
    """
    tolerance = graph.tolerances[precision]
    others = CARRIED[precision]
    wrapper = graph.wrap(model).to(device)
    results = [_differences(name, graph, wrapper, run, at, device) for at in sizes]
    report = _report(tolerance, [first for first, *_ in results])
    if precision == "float32" and report.unit == "std":
        report = _with_rounding(report, graph, wrapper, device)
    _check(name, report, advice)
    for place, spec in enumerate(graph.outputs[1:], start=1):
        _check(f"{spec.name} of {name}", _report(others, [size[place] for size in results]), advice)
    return report


def _report(tolerance: Tolerance, sizes: Iterable[SizeParity]) -> ParityReport:
    return ParityReport(tolerance=tolerance.limit, unit=tolerance.unit, sizes=tuple(sizes))


def _check(name: str, report: ParityReport, advice: str) -> None:
    for size in report.sizes:
        difference, allowed = report.difference_at(size), report.allowed_at(size)
        if not difference <= allowed:
            raise ParityError(
                f"{name} differs from PyTorch by {difference:.3g} {report.unit} "
                f"at {_words(size.sizes)}, and {allowed:.3g} is allowed; {advice}"
            )


def _with_rounding(
    report: ParityReport, graph: Graph, wrapper: torch.nn.Module, device: torch.device
) -> ParityReport:
    """The report with PyTorch's own rounding at the sizes that are above the tolerance.

    An attention whose logits are large, as T5's are, which scales none, multiplies what float32
    rounds: at 512 tokens more than the tolerance, in PyTorch as in any graph. Levels of brightness
    have no part in it: they round to whole ones, so float64 would excuse a level anywhere.
    """
    sizes = []
    for size in report.sizes:
        if report.difference_at(size) <= report.tolerance:
            sizes.append(size)
            continue
        inputs = [t.to(device) for t in graph.example_inputs(size.sizes, seed=INPUT_SEED)]
        exact = [t.double() if t.is_floating_point() else t for t in inputs]
        try:
            with torch.no_grad():
                wanted = _all(copy_in(torch.float64, wrapper)(*exact))[0].double()
                given = _all(wrapper(*inputs))[0].double()
        except RuntimeError:  # a model that computes part of it in float32 by name
            sizes.append(size)
            continue
        rounding = float((wanted - given).abs().max() / wanted.std())
        sizes.append(size.model_copy(update={"rounding": rounding}))
    return report.model_copy(update={"sizes": tuple(sizes)})


def _differences(
    name: str,
    graph: Graph,
    wrapper: torch.nn.Module,
    run: RunGraph,
    sizes: Sizes,
    device: torch.device,
) -> list[SizeParity]:
    """Of each output."""
    inputs = tuple(tensor.to(device) for tensor in graph.example_inputs(sizes, seed=INPUT_SEED))
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        expected = _all(wrapper(*inputs))
    try:
        actual = _all(run(*inputs))
    except Exception as error:
        raise ParityError(
            f"{name} cannot be run at {_words(sizes)}: {first_line(error)}"
        ) from error
    return [
        _difference(name, wanted, given, sizes)
        for wanted, given in zip(expected, actual, strict=True)
    ]


def _all(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _difference(name: str, expected: Tensor, actual: Tensor, sizes: Sizes) -> SizeParity:
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        raise ParityError(
            f"{name} gives {actual.dtype} {list(actual.shape)} where PyTorch gives "
            f"{expected.dtype} {list(expected.shape)}, at {_words(sizes)}"
        )
    reference = expected.double()
    max_abs = float((reference - actual.double()).abs().max())
    std = float(reference.std(correction=0))
    max_rel = max_abs / std if std else (0.0 if max_abs == 0 else float("inf"))
    return SizeParity(sizes=dict(sizes), max_abs=max_abs, max_rel=max_rel)


def _in_onnxruntime(graph: Graph, file: Path) -> RunGraph:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ParityError(
            f"ONNX Runtime cannot open the exported {graph.name}: {first_line(error)}"
        ) from error
    names = [spec.name for spec in graph.inputs]
    outputs = [spec.name for spec in graph.outputs]

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        feeds = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        return tuple(torch.from_numpy(output) for output in session.run(outputs, feeds))

    return run


def _words(sizes: Sizes) -> str:
    return ", ".join(f"{axis} = {size}" for axis, size in sizes.items())
