"""A PyTorch module to an ONNX file, through PyTorch's dynamo exporter.

The same weights give the same bytes: what the exporter notes about the machine (stack traces, file
names) is taken out. Knows of a graph only what `Graph` says; checks nothing (see `parity`).

Opset 20 with IR version 10 needs ONNX Runtime 1.18 or later, which NGC's Triton 24.10 has (1.19);
on the CPU it was as fast as opsets 18, 21 and 23 or faster.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx_ir
import torch
from onnx_ir import passes
from onnx_ir.passes import common
from onnxscript import optimizer

from unsee.export.graphs.graphs import Graph
from unsee.export.onnx import prompt_attention, rewrites
from unsee.export.onnx.lowerings import TRANSLATIONS
from unsee.export.onnx.relative_attention import of_any_length
from unsee.repository.layout import WEIGHTS_FILE

OPSET, IR_VERSION = 20, 10
EXTERNAL_DATA_BYTES = 2**31 - 2**24
"""Weights beyond this go to `model.onnx.data`: a protobuf message ends at 2 GiB."""

_LARGEST_SIZE = {"B": 64}
_LARGEST_OTHER_SIZE = 1024


def export_onnx(graph: Graph, model: Any, file: Path) -> int:
    """Write `model` (eval mode) as `graph` to `file` and return the number of its nodes.

    It computes in the precision of the model's weights.
    """
    wrapper = graph.wrap(model)
    with _quiet_exporter(), torch.no_grad(), of_any_length(wrapper):
        program = torch.onnx.export(
            wrapper,
            graph.example_inputs(graph.traced_sizes, seed=0),
            dynamo=True,
            opset_version=OPSET,
            input_names=[tensor.name for tensor in graph.inputs],
            output_names=[tensor.name for tensor in graph.outputs],
            dynamic_shapes=_dynamic_shapes(graph),
            custom_translation_table=TRANSLATIONS,
            optimize=False,
            verbose=False,
        )
        assert program is not None
        exported = program.model
        _simplify(exported)
        _save(exported, file)
    return sum(1 for _ in exported.graph.all_nodes())


def _save(model: onnx_ir.Model, file: Path) -> None:
    """Save graph and weights in `file`; from 2 GB on the weights go to the file beside it."""
    weights = (value.const_value for value in model.graph.initializers.values())
    size_bytes = sum(weight.nbytes for weight in weights if weight is not None)
    external = WEIGHTS_FILE if size_bytes > EXTERNAL_DATA_BYTES else None
    onnx_ir.save(model, file, external_data=external)


def _dynamic_shapes(graph: Graph) -> tuple[dict[int, Any], ...]:
    axes = {dim for tensor in graph.inputs for dim in tensor.dims if isinstance(dim, str)}
    dims: dict[str, Any] = {}
    for axis in sorted(axes):
        multiple = graph.multiples.get(axis, 1)
        most = multiple * _LARGEST_SIZE.get(axis, _LARGEST_OTHER_SIZE)
        largest = graph.largest_sizes.get(axis, most)
        dim = torch.export.Dim(axis, min=1, max=largest // multiple)
        dims[axis] = multiple * dim if multiple > 1 else dim
    return tuple(
        {place: dims[dim] for place, dim in enumerate(tensor.dims) if isinstance(dim, str)}
        for tensor in graph.inputs
    )


def _simplify(model: onnx_ir.Model) -> None:
    """Fold constants, rewrite what engines run slowly, drop what is unused or double and the
    exporter's stack traces.

    The exporter's own optimiser also matches rewrite rules against every node, which takes most of
    its time and changed nothing in the speed of these graphs.
    """
    passes.Sequential(common.InlinePass())(model)
    optimizer.fold_constants(model, onnx_shape_inference=True)
    rewrites.split_gates(model)
    rewrites.drop_divisions_by_one(model)
    prompt_attention.fold_frames(model)
    passes.Sequential(
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
        common.RemoveUnusedOpsetsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
        common.ClearMetadataAndDocStringPass(),
    )(model)


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep the exporter's warnings to itself inside the block; errors are raised as ever."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
