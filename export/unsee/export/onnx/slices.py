"""Attention along frames, computed for a part of the pixels at a time.

Its tensors are many times larger than a core's cache, and a CPU that computes them whole waits for
memory. The pixels' sequences do not know of each other, so the nodes are repeated for a slice of
them at a time, in tensors that stay in the cache. No value changes. Knows ONNX nodes and the shapes
that the exporter noted, not the models that they come from.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from unsee.export.onnx.new_nodes import NewNodes
from unsee.export.onnx.transposes import INTO_PIXELS, OUT_OF_PIXELS, permutation

SLICE_ELEMENTS = 2**20
"""As many numbers the widest tensor of a slice has: 2 MiB in bfloat16, the cache of a core."""

MOST_SLICES = 16
"""More make the graph larger and hardly faster."""

_WIDENING = 4
"""The widest tensor is that of the feed-forward: so many times as wide as the block."""

_BY_ELEMENT = frozenset({"Add", "Erf", "Gelu", "MatMul", "Mul", "Sigmoid"})
_OVER_LAST_AXIS = frozenset({"LayerNormalization", "Softmax"})


def slice_pixels(model: ir.Model, tokens: float) -> int:
    """Repeat what is computed of [N, F, C], N pixels' frames, for a slice of N at a time.

    That is what lies between the transposes [B, C, F, H, W] -> [B, H, W, F, C] and
    [B, H, W, F, C] -> [B, F, C, H, W]. `tokens` is how many there usually are for each unit of the
    number that N is known to be a multiple of: N * F / 64 if N is `64*B*h*w`. What fits the cache
    as it is stays whole. Returns how many were found and cut.

    An axis of size 1 comes before the heads' others in a slice: OpenVINO computes attention of four
    axes in one kernel, which for so short sequences takes longer than one product after the other.
    """
    nodes = list(model.graph)
    starts = {start for node in nodes if (start := _start(node)) is not None}
    ends = [end for node in nodes if (end := _end(node)) is not None]
    regions = [region for end in ends if (region := _region(end, starts)) is not None]
    return sum(_cut(model.graph, region, tokens) for region in regions)


@dataclass(frozen=True)
class _Region:
    """Nodes in their order that compute `end` [N, F, C'] from `start` [N, F, C] alone."""

    start: ir.Value
    end: ir.Value
    nodes: tuple[ir.Node, ...]

    @property
    def width(self) -> int:
        """The block's width: that of what it normalises."""
        normed = (n.outputs[0].shape for n in self.nodes if n.op_type == "LayerNormalization")
        return max((int(s[-1]) for s in normed if s and isinstance(s[-1], int)), default=0)


def _start(node: ir.Node) -> ir.Value | None:
    """The [N, F, C] after the transpose `node`, if it puts the frames of a pixel together."""
    if permutation(node) != INTO_PIXELS:
        return None
    value = node.outputs[0]
    while _rank(value) != 3:
        users = [use.node for use in value.uses()]
        if len(users) != 1 or users[0].op_type != "Reshape":
            return None
        value = users[0].outputs[0]
    return value


def _end(node: ir.Node) -> ir.Value | None:
    """The [N, F, C] of which the transpose `node` makes images again."""
    value = node.inputs[0] if permutation(node) == OUT_OF_PIXELS else None
    while value is not None and _rank(value) != 3:
        producer = value.producer()
        if producer is None or producer.op_type not in ("Reshape", "Unsqueeze"):
            return None
        value = producer.inputs[0]
    return value


def _region(end: ir.Value, starts: Iterable[ir.Value]) -> _Region | None:
    """What lies between one of `starts` and `end`; None if it cannot be cut along N."""
    begun, inside, unseen = set(), set(), [end]
    while unseen:
        value = unseen.pop()
        node = value.producer()
        if value in starts:
            begun.add(value)
        elif node is None or not _keeps_sequences_apart(node):
            return None
        elif node not in inside:
            inside.add(node)
            unseen += [each for each in _data(node) if each.const_value is None]
    between = (node.outputs[0] for node in inside if node.outputs[0] is not end)
    if len(begun) != 1 or any(use.node not in inside for value in between for use in value.uses()):
        return None
    producer = end.producer()
    assert producer is not None
    assert producer.graph is not None
    return _Region(begun.pop(), end, tuple(node for node in producer.graph if node in inside))


def _keeps_sequences_apart(node: ir.Node) -> bool:
    if len(node.outputs) != 1:
        return False
    if node.op_type == "Transpose":
        return permutation(node)[:1] == (0,)
    if node.op_type == "Reshape":
        return _sizes(node) is not None
    if node.op_type in _OVER_LAST_AXIS:
        return node.attributes.get_int("axis", -1) in (-1, (_rank(node.inputs[0]) or 0) - 1)
    small = all((_rank(each) or 0) <= 2 for each in _data(node) if each.const_value is not None)
    return node.op_type in _BY_ELEMENT and small


def _sizes(reshape: ir.Node) -> tuple[int, ...] | None:
    """What a reshape that keeps N makes of the other axes: numbers, 0 for the F that it keeps."""
    source = reshape.inputs[0]
    before, after = (source.shape if source else None), reshape.outputs[0].shape
    if before is None or after is None or str(before[0]) != str(after[0]):
        return None
    keeps_frames = str(before[1]) == str(after[1]) and not isinstance(after[1], int)
    sizes = [0, *after[2:]] if keeps_frames else after[1:]
    numbers = tuple(size for size in sizes if isinstance(size, int))
    return numbers if len(numbers) == len(sizes) else None


def _data(node: ir.Node) -> Iterator[ir.Value]:
    inputs = node.inputs[:1] if node.op_type == "Reshape" else node.inputs
    return (value for value in inputs if value is not None)


def _cut(graph: ir.Graph, region: _Region, tokens: float) -> bool:
    first = region.start.shape
    assert first is not None
    factor = _whole_factor(first[0])
    count = num_slices(tokens * factor * _WIDENING * region.width, factor)
    if count == 1:
        return False
    new = NewNodes(graph, before=region.nodes[-1])
    frames = new.dim(region.start, 1)
    parts = new.split(region.start, count)
    whole = new.add("Concat", [_copied(new, region, part, frames) for part in parts], axis=0)
    whole.shape, whole.type = region.end.shape, region.end.type
    region.end.replace_all_uses_with(whole, replace_graph_outputs=True)
    graph.remove(region.nodes, safe=True)
    return True


def _copied(new: NewNodes, region: _Region, part: ir.Value, frames: ir.Value) -> ir.Value:
    """The region's nodes once more, for `part` [n, F, C] in the place of its start.

    What has more than three axes gets one more, of size 1, before them.
    """
    copies: dict[ir.Value | None, ir.Value | None] = {region.start: part}
    for node in region.nodes:
        inputs = [copies.get(value, value) for value in node.inputs]
        attributes: dict[str, Any] = dict(node.attributes)
        if node.op_type == "Reshape":
            copies[node.outputs[0]] = _reshaped(new, node, inputs[0], frames)
            continue
        if node.op_type == "Transpose" and len(permutation(node)) > 3:
            attributes["perm"] = [0, *(axis + 1 for axis in permutation(node))]
        elif node.op_type in _OVER_LAST_AXIS:
            attributes["axis"] = -1
        copies[node.outputs[0]] = new.add(node.op_type, inputs, **attributes)
    end = copies[region.end]
    assert end is not None
    return end


def _reshaped(new: NewNodes, node: ir.Node, value: ir.Value | None, frames: ir.Value) -> ir.Value:
    sizes = _sizes(node)
    assert value is not None
    assert sizes is not None
    first = [1, -1] if len(sizes) > 2 else [-1]
    return new.reshape(value, *first, *(size or frames for size in sizes))


def num_slices(elements: float, factor: int) -> int:
    """A power of two that divides `factor`, enough for slices of `elements` to fit the cache."""
    count = 1
    while count * SLICE_ELEMENTS < elements and count < MOST_SLICES and factor % (2 * count) == 0:
        count *= 2
    return count


def _whole_factor(size: int | ir.SymbolicDim) -> int:
    """The number that a size is known to be a multiple of: 4 of `4*s39*B*s94`."""
    leading = re.match(r"(\d+)(\*|$)", str(size))
    return int(leading[1]) if leading else 1


def _rank(value: ir.Value | None) -> int | None:
    return value.shape.rank() if value is not None and value.shape is not None else None
