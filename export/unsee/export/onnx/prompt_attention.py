"""Attention to the prompt, with keys and values computed once for all frames of a clip.

The exported graph repeats a row's prompt for each frame, as diffusers does, and projects every
copy. Queries are independent of each other, so those of all frames can stand in one sequence before
one copy. No value changes. Shapes are those that the exporter noted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

_Size = int | ir.Value | ir.SymbolicDim
"""Of an axis: a number, or a value [1] of the graph."""


def fold_frames(model: ir.Model) -> int:
    """Let the queries of a clip's frames share the prompt; returns how many attentions there were.

    Repeated is what goes [B, L, D] -> [B, 1, L, D] -> [B, F, L, D] -> [B*F, L, D]. An attention is
    softmax(Q Kᵀ) V of four axes [B*F, heads, T or L, d] whose keys and values are products of it
    with weights; Q becomes [B, heads, F*T, d].
    """
    found = [
        (prompt, attention)
        for node in model.graph
        if (prompt := _repeated(node)) is not None
        for use in node.outputs[0].uses()
        if (attention := _attention(use.node)) is not None
    ]
    for prompt, attention in found:
        _fold(model.graph, prompt, attention)
    return len(found)


@dataclass(frozen=True)
class _Attention:
    """`queries`, `keys`, `values` reshape into heads, `end` out of them, `between` lie the rest."""

    queries: ir.Node
    keys: ir.Node
    values: ir.Node
    end: ir.Node
    between: tuple[ir.Node, ...]


def _repeated(node: ir.Node) -> ir.Value | None:
    """The [B, L, D] of which the reshape `node` makes [B*F, L, D], each row F times in a row."""
    expand = _producer(node, "Expand") if node.op_type == "Reshape" else None
    unsqueeze = _producer(expand, "Unsqueeze") if expand else None
    if expand is None or unsqueeze is None:
        return None
    prompt, axes = unsqueeze.inputs[0], unsqueeze.inputs[1]
    new_axis = axes.const_value.numpy().tolist() if axes and axes.const_value else None
    if prompt is None or new_axis != [1]:
        return None
    before, wide, after = _dims(prompt), _dims(expand.outputs[0]), _dims(node.outputs[0])
    repeats = len(before) == len(after) == 3 and before[1:] == wide[2:] == after[1:]
    return prompt if repeats else None  # an axis of unknown size, B, is not one to be repeated


def _attention(product: ir.Node) -> _Attention | None:
    """The attention whose keys are `product`; None if these are no keys, or it is another form."""
    keys = _only_user(product, "Reshape") if _is_projection(product) else None
    scores, keys_moved = _after_transposes(keys)
    if scores is None or scores.op_type != "MatMul":
        return None
    queries, queries_moved = _reshaped(scores.inputs[0])
    softmax = _only_user(scores, "Softmax")
    mixed = _only_user(softmax, "MatMul") if softmax else None
    values, values_moved = _reshaped(mixed.inputs[1]) if mixed else (None, ())
    end, end_moved = _after_transposes(mixed)
    if not (queries and values and softmax and mixed and end and end.op_type == "Reshape"):
        return None
    projected = _producer(values, "MatMul")
    same_prompt = projected is not None and projected.inputs[0] is product.inputs[0]
    by_key = softmax.attributes.get_int("axis", -1) in (-1, 3)
    ranks = [len(_dims(node.outputs[0])) for node in (queries, keys, values, end) if node]
    if not (same_prompt and _is_projection(projected) and by_key and ranks == [4, 4, 4, 3]):
        return None
    assert keys is not None
    moved = (*queries_moved, *keys_moved, *values_moved)
    between = (*moved, scores, softmax, mixed, *end_moved)
    return _Attention(queries, keys, values, end, between)


def _fold(graph: ir.Graph, prompt: ir.Value, attention: _Attention) -> None:
    asked, mixed = attention.queries.inputs[0], attention.end.inputs[0]
    assert asked is not None
    assert mixed is not None
    for node in attention.between:
        for value in node.outputs:
            value.shape = None  # it was noted of the frames apart
    for node in (attention.keys, attention.values):
        product = _producer(node, "MatMul")
        assert product is not None
        new = _NewNodes(graph, before=node)
        once = new.add("MatMul", [prompt, product.inputs[1]])
        _replace(graph, node, new.reshape(once, 0, -1, *_heads(node)))
    new = _NewNodes(graph, before=attention.queries)
    together = new.reshape(asked, new.dim(prompt, 0), -1, *_heads(attention.queries))
    _replace(graph, attention.queries, together)
    new = _NewNodes(graph, before=attention.end)
    width = int(_dims(attention.end.outputs[0])[-1])
    apart = new.reshape(mixed, new.dim(asked, 0), new.dim(asked, 1), width)
    apart.shape = attention.end.outputs[0].shape
    _replace(graph, attention.end, apart)


def _replace(graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    value.type = node.outputs[0].type
    node.outputs[0].replace_all_uses_with(value, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _heads(reshape: ir.Node) -> tuple[int, int]:
    *_, heads, size = _dims(reshape.outputs[0])
    return int(heads), int(size)


def _is_projection(node: ir.Node | None) -> bool:
    """Is this a product with weights [D, C] that has one use?"""
    if node is None or node.op_type != "MatMul" or len(node.outputs[0].uses()) != 1:
        return False
    weights = node.inputs[1]
    return weights is not None and weights.const_value is not None and len(_dims(weights)) == 2


def _after_transposes(node: ir.Node | None) -> tuple[ir.Node | None, tuple[ir.Node, ...]]:
    """The node that alone uses what `node` gives, and the transposes on the way to it."""
    passed: list[ir.Node] = []
    user = _only_user(node) if node else None
    while user is not None and _permutation(user)[:1] == (0,):
        passed.append(user)
        user = _only_user(user)
    return user, tuple(passed)


def _reshaped(value: ir.Value | None) -> tuple[ir.Node | None, tuple[ir.Node, ...]]:
    """The reshape that `value` comes from, past transposes and factors, and those on the way."""
    passed: list[ir.Node] = []
    while value is not None and len(value.uses()) == 1:
        node = value.producer()
        if node is None or node.op_type == "Reshape":
            return node, tuple(passed)
        if _permutation(node)[:1] != (0,) and not _is_factor(node):
            break
        passed.append(node)
        value = node.inputs[0]
    return None, ()


def _permutation(node: ir.Node) -> tuple[int, ...]:
    """The axes of a transpose's input in the order of its output; () of another node."""
    if node.op_type != "Transpose" or "perm" not in node.attributes:
        return ()
    return tuple(node.attributes["perm"].as_ints())


def _is_factor(node: ir.Node) -> bool:
    factor = node.inputs[1] if node.op_type == "Mul" else None
    return factor is not None and factor.const_value is not None and factor.const_value.size == 1


def _only_user(node: ir.Node, op_type: str = "") -> ir.Node | None:
    uses = list(node.outputs[0].uses())
    fits = len(uses) == 1 and uses[0].node.op_type == (op_type or uses[0].node.op_type)
    return uses[0].node if fits else None


def _producer(node: ir.Node, op_type: str) -> ir.Node | None:
    found = node.inputs[0].producer() if node.inputs[0] is not None else None
    return found if found is not None and found.op_type == op_type else None


def _dims(value: ir.Value) -> list[str]:
    return [str(size) for size in value.shape] if value.shape is not None else []


class _NewNodes:
    """Adds nodes to `graph`, one after the other, each before the node `before`."""

    def __init__(self, graph: ir.Graph, before: ir.Node) -> None:
        self._graph, self._before = graph, before

    def add(self, operator: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Value:
        """The one output of a new node."""
        node = ir.node(operator, inputs, attributes)
        self._graph.insert_before(self._before, node)
        return node.outputs[0]

    def dim(self, value: ir.Value, axis: int) -> ir.Value:
        """The size of an axis, [1]."""
        return self.add("Shape", [value], start=axis, end=axis + 1)

    def reshape(self, value: ir.Value, *sizes: _Size) -> ir.Value:
        """As ONNX's Reshape: 0 keeps an axis, -1 takes what is left."""
        parts = [size if isinstance(size, ir.Value) else self.numbers(size) for size in sizes]
        return self.add("Reshape", [value, self.add("Concat", parts, axis=0)])

    def numbers(self, *numbers: int | ir.SymbolicDim) -> ir.Value:
        """A constant int64 vector."""
        return self.add("Constant", [], value=ir.tensor(np.array(numbers, np.int64)))
