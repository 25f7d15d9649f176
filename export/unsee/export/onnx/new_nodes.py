"""New nodes in an exported graph, put before one that is there; knows no model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

Size = int | ir.Value | ir.SymbolicDim
"""Of an axis: a number, or a value [1] of the graph."""


class NewNodes:
    """Adds nodes to `graph`, one after the other, each before the node `before`."""

    def __init__(self, graph: ir.Graph, before: ir.Node) -> None:
        self._graph, self._before = graph, before

    def add(self, operator: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Value:
        """The one output of a new node."""
        return self._insert(ir.node(operator, inputs, attributes))[0]

    def dim(self, value: ir.Value, axis: int) -> ir.Value:
        """The size of an axis, [1]."""
        return self.add("Shape", [value], start=axis, end=axis + 1)

    def reshape(self, value: ir.Value, *sizes: Size) -> ir.Value:
        """As ONNX's Reshape: 0 keeps an axis, -1 takes what is left."""
        parts = [size if isinstance(size, ir.Value) else self.numbers(size) for size in sizes]
        return self.add("Reshape", [value, self.add("Concat", parts, axis=0)])

    def numbers(self, *numbers: int | ir.SymbolicDim) -> ir.Value:
        """A constant int64 vector."""
        return self.add("Constant", [], value=ir.tensor(np.array(numbers, np.int64)))

    def _insert(self, node: ir.Node) -> Sequence[ir.Value]:
        self._graph.insert_before(self._before, node)
        return node.outputs
