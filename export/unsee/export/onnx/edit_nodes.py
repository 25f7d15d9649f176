"""The graph of an edit, written node by node: PyTorch's exporter takes seconds for these few.

What it computes is `unsee.deltas.edit.EditedNorm`, or a final normalisation alone; whether it does
so is checked like any other graph's parity.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from unsee.deltas.edit import EditedNorm
from unsee.export.graphs.graphs import TensorSpec
from unsee.export.graphs.prompt_graphs import EditGraph
from unsee.export.onnx.exporter import IR_VERSION, OPSET

STANDARDISED_EPS = 1e-5
"""That of `torch.nn.functional.layer_norm`, with which states are standardised."""

_TYPES = {"FP32": TensorProto.FLOAT, "INT64": TensorProto.INT64}


def write_edit(graph: EditGraph, norm: Any, file: Path) -> int:
    """Write `norm`, a final normalisation with or without an edit, as `graph` to `file`.

    Returns the number of its nodes.
    """
    nodes, states = _Nodes(), "states"
    if isinstance(norm, EditedNorm):
        states, norm = _edited(nodes, norm), norm.norm
    _normalised(nodes, norm, states, "prompt_embeds")
    made = helper.make_graph(
        nodes.nodes,
        graph.name,
        [_value(tensor) for tensor in graph.inputs],
        [_value(tensor) for tensor in graph.outputs],
        nodes.weights,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=IR_VERSION)
    onnx.save(model, file)
    return len(nodes.nodes)


class _Nodes:
    """The nodes and weights of a graph that is being written."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node; returns its output."""
        self.nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def weight(self, name: str, values: Any) -> str:
        """Add a constant; returns its name."""
        array = values if isinstance(values, np.ndarray) else values.detach().cpu().numpy()
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name


def _edited(nodes: _Nodes, norm: EditedNorm) -> str:
    """`states` with the edit of `norm`: z - up (down z - offset), z being them standardised."""
    standardised = _standardised(nodes, norm.norm)
    down = nodes.weight("down", norm.down.float().T)
    up = nodes.weight("up", norm.up.float().T)
    offset = nodes.weight("offset", norm.offset.float())
    nodes.add("MatMul", [standardised, down], "projected")
    nodes.add("Sub", ["projected", offset], "moved")
    nodes.add("MatMul", ["moved", up], "change")
    edited = nodes.add("Sub", [standardised, "change"], "edited")
    if norm.reads_padding:
        return edited
    axis = nodes.weight("last_axis", np.array([-1]))
    nodes.add("Cast", ["attention_mask"], "seen", to=TensorProto.BOOL)
    nodes.add("Unsqueeze", ["seen", axis], "seen_states")
    return nodes.add("Where", ["seen_states", edited, "states"], "edited_where_seen")


def _standardised(nodes: _Nodes, norm: Any) -> str:
    if isinstance(norm, nn.LayerNorm):
        ones = nodes.weight("ones", np.ones(norm.normalized_shape, np.float32))
        return nodes.add(
            "LayerNormalization", ["states", ones], "standardised", epsilon=STANDARDISED_EPS
        )
    return _root_mean_square(nodes, norm, "states", "standardised")


def _normalised(nodes: _Nodes, norm: Any, states: str, output: str) -> None:
    """What the normalisation gives for `states`, as `output`."""
    weight = nodes.weight("weight", norm.weight.float())
    if isinstance(norm, nn.LayerNorm):
        inputs = [states, weight]
        if norm.bias is not None:
            inputs.append(nodes.weight("bias", norm.bias.float()))
        nodes.add("LayerNormalization", inputs, output, epsilon=norm.eps)
        return
    unscaled = _root_mean_square(nodes, norm, states, "unscaled")
    nodes.add("Mul", [unscaled, weight], output)


def _root_mean_square(nodes: _Nodes, norm: Any, states: str, output: str) -> str:
    """`states` with mean square 1."""
    axes = nodes.weight(f"{output}_axes", np.array([-1]))
    epsilon = nodes.weight(f"{output}_epsilon", np.array(norm.variance_epsilon, np.float32))
    nodes.add("Mul", [states, states], f"{output}_squares")
    nodes.add("ReduceMean", [f"{output}_squares", axes], f"{output}_mean", keepdims=1)
    nodes.add("Add", [f"{output}_mean", epsilon], f"{output}_variance")
    nodes.add("Sqrt", [f"{output}_variance"], f"{output}_root")
    return nodes.add("Div", [states, f"{output}_root"], output)


def _value(tensor: TensorSpec) -> Any:
    return helper.make_tensor_value_info(tensor.name, _TYPES[tensor.data_type], tensor.dims)
