"""Rewrites of an exported graph that change no value and let engines run it faster.

Knows ONNX nodes as `onnx_ir` holds them, not the models that they come from.
"""

from typing import Any

import numpy as np
import onnx_ir as ir


def split_gates(model: ir.Model) -> int:
    """Two products instead of one whose output is cut in half; returns how many were rewritten.

    A gated feed-forward (GEGLU, arXiv 2002.05202) computes value and gate by one matrix product
    [C, 2H] and splits the result, which copies the largest tensor of the block. Its weights are cut
    instead.
    """
    gates = [node for node in model.graph if _is_gate(node)]
    for split in gates:
        _rewrite_gate(model.graph, split)
    return len(gates)


def drop_divisions_by_one(model: ir.Model) -> int:
    """x instead of x / 1; returns how many there were. diffusers scales outputs by 1 or so."""
    divisions = [node for node in model.graph if node.op_type == "Div" and _is_one(node.inputs[1])]
    for node in divisions:
        ir.convenience.replace_all_uses_with(
            node.outputs[0], _input(node, 0), replace_graph_outputs=True
        )
        model.graph.remove(node, safe=True)
    return len(divisions)


def _is_gate(split: ir.Node) -> bool:
    """Is this the halving, along the last axis, of `x @ W + b`, which nothing else uses?"""
    if split.op_type != "Split" or len(split.outputs) != 2:
        return False
    add = _input(split, 0).producer()
    if add is None or add.op_type != "Add" or len(add.outputs[0].uses()) != 1:
        return False
    product = _input(add, 0).producer()
    if product is None or product.op_type != "MatMul" or len(product.outputs[0].uses()) != 1:
        return False
    weight, bias = _constant(product.inputs[1]), _constant(add.inputs[1])
    if weight is None or bias is None or weight.ndim != 2 or bias.ndim != 1:
        return False
    rank = len(split.inputs[0].shape) if split.inputs[0] and split.inputs[0].shape else 0
    axis = split.attributes.get_int("axis", 0)
    return axis in (-1, rank - 1) and _halves(split, weight.shape[1])


def _halves(split: ir.Node, width: int) -> bool:
    if len(split.inputs) < 2 or split.inputs[1] is None:
        return width % 2 == 0
    sizes = _constant(split.inputs[1])
    return sizes is not None and sizes.tolist() == [width // 2, width // 2]


def _rewrite_gate(graph: ir.Graph, split: ir.Node) -> None:
    add = _input(split, 0).producer()
    assert add is not None
    product = _input(add, 0).producer()
    assert product is not None
    weight, bias = _constant(product.inputs[1]), _constant(add.inputs[1])
    assert weight is not None
    assert bias is not None
    half = weight.shape[1] // 2
    for index, output in enumerate(split.outputs):
        part = slice(index * half, (index + 1) * half)
        name = output.name or f"gate_{index}"
        matrix = _initializer(graph, f"{name}.weight", weight[:, part])
        shift = _initializer(graph, f"{name}.bias", bias[part])
        multiplied = ir.node("MatMul", [product.inputs[0], matrix])
        added = ir.node("Add", [multiplied.outputs[0], shift])
        added.outputs[0].shape, added.outputs[0].type = output.shape, output.type
        graph.insert_before(split, [multiplied, added])
        ir.convenience.replace_all_uses_with(output, added.outputs[0], replace_graph_outputs=True)
    for node in (split, add, product):
        graph.remove(node, safe=True)


def _initializer(graph: ir.Graph, name: str, array: Any) -> ir.Value:
    value = ir.Value(name=name, const_value=ir.tensor(np.ascontiguousarray(array), name=name))
    tensor = value.const_value
    assert tensor is not None
    value.shape, value.type = ir.Shape(array.shape), ir.TensorType(tensor.dtype)
    graph.register_initializer(value)
    return value


def _input(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    assert value is not None
    return value


def _is_one(value: ir.Value | None) -> bool:
    array = _constant(value)
    return array is not None and array.size == 1 and float(array.reshape(-1)[0]) == 1.0


def _constant(value: ir.Value | None) -> Any:
    if value is None or value.const_value is None:
        return None
    return value.const_value.numpy()
