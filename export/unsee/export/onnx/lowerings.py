"""How some PyTorch operators become ONNX: where the exporter's own way is wrong or slow to run.

Each function is the translation of one `aten` operator, written in ONNX operators; `TRANSLATIONS`
is the table that `torch.onnx.export` takes. Knows operators, not the models that use them. What was
gained is measured by `python -m benchmarks.engines.compare`.
"""

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset18 as op
from onnxscript.function_libs.torch_lib.ops import core as torch_core
from onnxscript.function_libs.torch_lib.ops import nn as torch_library


def repeat_interleave(
    self: Any, repeats: Any, dim: int | None = None, output_size: Any = None
) -> Any:
    """`aten::repeat_interleave.self_int` along one axis, its count a number or symbolic.

    onnxscript 0.7 expands the axis before the new one when the count is symbolic.
    """
    if dim is None:
        self, dim = op.Reshape(self, _numbers(-1)), 0
    rank = len(self.shape)
    axis = dim % rank
    count = _numbers(repeats) if isinstance(repeats, int) else op.Reshape(repeats, _numbers(-1))
    ones_before, ones_after = [1] * (axis + 1), [1] * (rank - axis - 1)
    parts = [_numbers(*ones_before), count] + ([_numbers(*ones_after)] if ones_after else [])
    repeated = op.Expand(op.Unsqueeze(self, _numbers(axis + 1)), op.Concat(*parts, axis=0))
    shape = [op.Shape(self, start=0, end=axis)] if axis else []
    shape.append(_numbers(-1))
    shape += [op.Shape(self, start=axis + 1)] if ones_after else []
    return op.Reshape(repeated, op.Concat(*shape, axis=0))


def group_norm(
    input: Any,
    num_groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Any:
    """`aten::group_norm` of [N, C, …], scaled and shifted while its space is one axis.

    The exporter multiplies by [C, 1, 1]: over rows as narrow as the latents are, which leaves most
    of a vector unit idle.
    """
    if weight is None or bias is None:
        return torch_library.aten_group_norm(input, num_groups, weight, bias, eps, cudnn_enabled)
    channels = input.shape[1]
    groups = op.Reshape(input, _numbers(0, num_groups, -1))
    ones = op.CastLike(op.Constant(value_floats=[1.0] * num_groups), input)
    zeros = op.CastLike(op.Constant(value_floats=[0.0] * num_groups), input)
    normed = op.InstanceNormalization(groups, ones, zeros, epsilon=eps)
    flat = op.Reshape(normed, _numbers(0, channels, -1))
    scaled = op.Mul(flat, op.Unsqueeze(weight, _numbers(-1)))
    shifted = op.Add(scaled, op.Unsqueeze(bias, _numbers(-1)))
    return op.Reshape(shifted, op.Shape(input))


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """`aten::scaled_dot_product_attention` of [B, H, L, d], its mask numbers that are added.

    The exporter transposes the keys by reshaping them twice, in which engines do not recognise
    attention; other masks are left to it.
    """
    is_added = attn_mask is None or attn_mask.dtype == query.dtype
    if not is_added or is_causal or enable_gqa:
        return torch_library.aten_scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa
        )
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    scaled = op.Mul(query, op.CastLike(op.Constant(value_float=float(factor)), query))
    scores = op.MatMul(scaled, op.Transpose(key, perm=[0, 1, 3, 2]))
    if attn_mask is not None:
        scores = op.Add(scores, attn_mask)
    return op.MatMul(op.Softmax(scores, axis=-1), value)


def slice_scatter(
    self: Any, src: Any, dim: int = 0, start: Any = None, end: Any = None, step: Any = 1
) -> Any:
    """`aten::slice_scatter`; what takes every second place of an axis is put beside the others.

    The exporter scatters by a table of indices. Rotary positions (Su et al., arXiv 2104.09864) are
    written so, twice for each query and key.
    """
    axis, first = dim % len(self.shape), 0 if start is None else start
    size = self.shape[axis]
    if not (step == 2 and first in (0, 1) and _is_even(size) and (end is None or end >= size)):
        return torch_core.aten_slice_scatter(self, src, dim, start, end, step)
    others = op.Slice(self, _numbers(1 - first), _numbers(size), _numbers(axis), _numbers(2))
    pair = (src, others) if first == 0 else (others, src)
    beside = op.Concat(*(op.Unsqueeze(part, _numbers(axis + 1)) for part in pair), axis=axis + 1)
    return op.Reshape(beside, op.Shape(self))


def _is_even(size: Any) -> bool:
    return isinstance(size, int) and size % 2 == 0


def _numbers(*values: int) -> Any:
    return op.Constant(value_ints=list(values))


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.repeat_interleave.self_int: repeat_interleave,
    torch.ops.aten.group_norm.default: group_norm,
    torch.ops.aten.scaled_dot_product_attention.default: scaled_dot_product_attention,
    torch.ops.aten.slice_scatter.default: slice_scatter,
}
