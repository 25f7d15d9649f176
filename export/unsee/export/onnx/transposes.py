"""Rewrites transposes of an exported graph that engines run slowly into ones that they run fast.

Knows the order of a transpose's axes, not what they mean; no value changes. A transpose is fast
when its last axis stays, for it moves whole rows, and when it only exchanges two neighbouring axes;
one that does both at once goes through memory number by number.
"""

from collections.abc import Callable, Sequence

import onnx_ir as ir

from unsee.export.onnx.new_nodes import NewNodes

CHANNELS_LAST = (0, 2, 3, 1)
"""[N, C, H, W] -> [N, H, W, C]."""
INTO_PIXELS = (0, 3, 4, 2, 1)
"""[B, C, F, H, W] -> [B, H, W, F, C]: the frames of a pixel come together."""
OUT_OF_PIXELS = (0, 3, 4, 1, 2)
"""[B, H, W, F, C] -> [B, F, C, H, W]: images again."""


def split_transposes(model: ir.Model) -> int:
    """Write the slow transposes as fast ones; returns how many were rewritten.

    `CHANNELS_LAST` exchanges two axes, C and H * W. `INTO_PIXELS` and `OUT_OF_PIXELS` become such
    an exchange and a move of whole rows of C. Frames in UINT8 stay as they are: TensorRT takes them
    only at the graph's end, to where their cast can change places with one transpose alone.
    """
    found = [node for node in model.graph if permutation(node) in _REWRITES and not _frames(node)]
    for node in found:
        source, output, perm = node.inputs[0], node.outputs[0], permutation(node)
        assert source is not None
        new = NewNodes(model.graph, before=node)
        dims = [new.dim(source, axis) for axis in range(len(perm))]
        moved = new.reshape(_REWRITES[perm](new, source, dims), *(dims[axis] for axis in perm))
        moved.shape, moved.type = output.shape, output.type
        output.replace_all_uses_with(moved, replace_graph_outputs=True)
        model.graph.remove(node, safe=True)
    return len(found)


def _frames(node: ir.Node) -> bool:
    source = node.inputs[0]
    return source is not None and source.dtype == ir.DataType.UINT8


def permutation(node: ir.Node) -> tuple[int, ...]:
    """The axes of a transpose's input in the order of its output; () of another node."""
    if node.op_type != "Transpose" or "perm" not in node.attributes:
        return ()
    return tuple(node.attributes["perm"].as_ints())


def _channels_last(new: NewNodes, source: ir.Value, dims: Sequence[ir.Value]) -> ir.Value:
    return new.add("Transpose", [new.reshape(source, 0, 0, -1)], perm=[0, 2, 1])


def _into_pixels(new: NewNodes, source: ir.Value, dims: Sequence[ir.Value]) -> ir.Value:
    _, channels, frames, _, _ = dims
    tokens = new.reshape(_channels_last(new, source, dims), 0, frames, -1, channels)
    return new.add("Transpose", [tokens], perm=[0, 2, 1, 3])


def _out_of_pixels(new: NewNodes, source: ir.Value, dims: Sequence[ir.Value]) -> ir.Value:
    _, height, width, frames, channels = dims
    tokens = new.reshape(source, 0, -1, frames, channels)
    by_frame = new.add("Transpose", [tokens], perm=[0, 2, 1, 3])
    images = new.reshape(by_frame, -1, height, width, channels)
    return new.add("Transpose", [images], perm=[0, 3, 1, 2])


_REWRITES: dict[tuple[int, ...], Callable[[NewNodes, ir.Value, Sequence[ir.Value]], ir.Value]] = {
    CHANNELS_LAST: _channels_last,
    INTO_PIXELS: _into_pixels,
    OUT_OF_PIXELS: _out_of_pixels,
}
