"""Rewrites a graph so that TensorRT's parser takes it; what it computes stays the same.

Knows two things that exporters write and the parser refuses: attributes of Attention that say what
holds without them, and data that is moved after it was cast to UINT8.
"""

import onnx

_UINT8 = onnx.TensorProto.UINT8
_SAYS_NOTHING = {"Attention": {"softcap": 0.0, "qk_matmul_output_mode": 0}}
_MOVES_DATA = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")


def prepare(model: onnx.ModelProto) -> None:
    """Rewrite `model` in place; its weights need not be loaded.

    Attributes at their default are dropped where the parser refuses them. A cast to UINT8 changes
    places with what only moves its result (Transpose, Reshape, …) up to the graph's output, the one
    place where the parser takes UINT8.
    """
    _drop_defaults(model.graph)
    outputs = {info.name for info in model.graph.output}
    while pair := _cast_before_move(model.graph, outputs):
        _swap(model.graph, *pair)


def _drop_defaults(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        defaults = _SAYS_NOTHING.get(node.op_type, {})
        kept = [a for a in node.attribute if defaults.get(a.name) != _value(a)]
        if len(kept) < len(node.attribute):
            del node.attribute[:]
            node.attribute.extend(kept)


def _cast_before_move(graph: onnx.GraphProto, outputs: set[str]) -> tuple[int, int] | None:
    """The places of a cast to UINT8 and of the one node that takes its result, if that moves it."""
    for place, node in enumerate(graph.node):
        if not _casts_to_uint8(node) or node.output[0] in outputs:
            continue
        takers = [n for n, other in enumerate(graph.node) if node.output[0] in other.input]
        if len(takers) == 1 and _moves(graph.node[takers[0]], node.output[0]):
            return place, takers[0]
    return None


def _swap(graph: onnx.GraphProto, cast_place: int, move_place: int) -> None:
    """x → cast → c → move → m becomes x → move → c → cast → m."""
    nodes = list(graph.node)
    cast, move = nodes[cast_place], nodes[move_place]
    between, moved = cast.output[0], move.output[0]
    move.input[0], move.output[0] = cast.input[0], between
    cast.input[0], cast.output[0] = between, moved
    nodes.insert(move_place, nodes.pop(cast_place))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    known = [info for info in graph.value_info if info.name != between]
    del graph.value_info[:]
    graph.value_info.extend(known)


def _casts_to_uint8(node: onnx.NodeProto) -> bool:
    return node.op_type == "Cast" and any(a.name == "to" and a.i == _UINT8 for a in node.attribute)


def _moves(node: onnx.NodeProto, name: str) -> bool:
    return node.op_type in _MOVES_DATA and node.input[0] == name and name not in node.input[1:]


def _value(attribute: onnx.AttributeProto) -> object:
    value: object = onnx.helper.get_attribute_value(attribute)
    return value
