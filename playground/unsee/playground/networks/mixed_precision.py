"""bfloat16 matrix products with float32 everything else, for training on a CPU.

CPUs with matrix units multiply bfloat16 several times faster than float32, but PyTorch's
bfloat16 gradients of a convolution's weight and of a group norm are many times *slower*
there. So activations and weights stay float32, and only the products are rounded; the
weight gradient is formed by whichever exact rule is fast for the shape.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PROJECTIONS = ("to_q", "to_k", "to_v", "q_proj", "k_proj", "v_proj", "q", "k", "v")
IM2COL_PIXELS = 1024  # up to this many pixels an image, im2col beats the float32 kernel


def shifted_patches(x: Tensor, kernel: int) -> Tensor:
    """[B, I, H, W] -> [B*H*W, kernel*kernel*I], zero-padded at the border."""
    _, channels, height, width = x.shape
    pad = kernel // 2
    padded = F.pad(x, (pad, pad, pad, pad)).permute(0, 2, 3, 1)
    shifts = [(i, j) for i in range(kernel) for j in range(kernel)]
    patches = [padded[:, i : i + height, j : j + width] for i, j in shifts]
    return torch.cat(patches, dim=-1).reshape(-1, kernel * kernel * channels)


def weight_gradient(x: Tensor, grad: Tensor, weight: Tensor) -> Tensor:
    """Gradient of a stride-1 "same" convolution's weight, from bfloat16 x and grad."""
    outputs, inputs, kernel, _ = weight.shape
    if x.shape[2] * x.shape[3] <= IM2COL_PIXELS or kernel == 1:
        rows = grad.permute(0, 2, 3, 1).reshape(-1, outputs)
        product = rows.t() @ shifted_patches(x, kernel)
        shape = (outputs, kernel, kernel, inputs)
        return product.float().reshape(shape).permute(0, 3, 1, 2)
    native: Callable[..., tuple[Tensor, Tensor, Tensor]] = torch.ops.aten.convolution_backward
    pad = [kernel // 2] * 2
    args = ([outputs], [1, 1], pad, [1, 1], False, [0, 0], 1, [False, True, False])
    if inputs <= 32 and outputs <= 32:
        return native(grad, x, weight.bfloat16(), *args)[1].float()
    return native(grad.float(), x.float(), weight, *args)[1]


class SameConvolution(torch.autograd.Function):
    """A stride-1 convolution that keeps height and width."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        low = x.bfloat16().contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(low, weight)
        pad = weight.shape[-1] // 2
        return F.conv2d(low, weight.bfloat16(), bias.bfloat16(), padding=pad).float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        low, weight = ctx.saved_tensors
        grad = grads[0].bfloat16().contiguous(memory_format=torch.channels_last)
        grad_x = None
        if ctx.needs_input_grad[0]:
            flipped = weight.bfloat16().flip(2, 3).transpose(0, 1)
            grad_x = F.conv2d(grad, flipped, padding=weight.shape[-1] // 2).float()
        if not ctx.needs_input_grad[1]:  # a frozen network
            return grad_x, None, None
        return grad_x, weight_gradient(low, grad, weight), grads[0].sum(dim=(0, 2, 3))


class MixedConv2d(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:  # the name nn.Conv2d gives it
        if self.bias is None:
            raise ValueError("MixedConv2d needs a bias")
        return SameConvolution.apply(input, self.weight, self.bias)  # type: ignore[no-any-return, no-untyped-call]


class MixedLinear(nn.Linear):
    """Its output stays bfloat16: what it is added to is float32 and decides the sum's type."""

    def forward(self, input: Tensor) -> Tensor:  # the name nn.Linear gives it
        bias = None if self.bias is None else self.bias.bfloat16()
        return F.linear(input.bfloat16(), self.weight.bfloat16(), bias)


class MixedProjection(MixedLinear):
    """A query, key or value: attention's bfloat16 gradient is slow on a CPU."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).float()


class MixedTemporalConv(nn.Conv3d):
    """A (3, 1, 1) convolution over frames, as one product over three shifted copies."""

    def forward(self, input: Tensor) -> Tensor:  # the name nn.Conv3d gives it
        num_frames = input.shape[2]
        last = F.pad(input.bfloat16().permute(0, 2, 3, 4, 1), (0, 0, 0, 0, 0, 0, 1, 1))
        shifted = torch.cat([last[:, i : i + num_frames] for i in range(3)], dim=-1)
        weight = self.weight[..., 0, 0].permute(0, 2, 1).flatten(1).bfloat16()
        bias = None if self.bias is None else self.bias.bfloat16()
        return F.linear(shifted, weight, bias).float().permute(0, 4, 1, 2, 3)


@cache
def bfloat16_pays() -> bool:
    """Whether this machine multiplies bfloat16 clearly faster than float32, found by trying.

    What a processor's flags promise does not decide it: without matrix units bfloat16 is faster on
    some processors and slower on others: eight times slower on an AMD EPYC without AVX-512.
    """
    x, weight = torch.randn(2048, 256), torch.randn(1024, 256)

    def fastest_s(a: Tensor, b: Tensor) -> float:
        times = []
        for _ in range(9):
            start = time.perf_counter()
            F.linear(a, b)
            times.append(time.perf_counter() - start)
        return min(times)

    return fastest_s(x.bfloat16(), weight.bfloat16()) < 0.8 * fastest_s(x, weight)


def is_temporal_convolution(module: nn.Module) -> bool:
    return (
        type(module) is nn.Conv3d
        and module.kernel_size == (3, 1, 1)
        and module.stride == (1, 1, 1)
        and module.padding == (1, 0, 0)
        and module.groups == 1
    )


def is_same_convolution(module: nn.Module) -> bool:
    return (
        type(module) is nn.Conv2d
        and module.stride == (1, 1)
        and module.groups == 1
        and module.bias is not None
        and module.kernel_size in ((1, 1), (3, 3))
        and module.padding == (module.kernel_size[0] // 2,) * 2
    )


def use_mixed_precision(module: nn.Module) -> nn.Module:
    """Switches the products inside ``module`` to bfloat16, in place; weights stay float32."""
    for name, child in module.named_modules():
        if is_same_convolution(child):
            child.__class__ = MixedConv2d
            child.to(memory_format=torch.channels_last)
        elif is_temporal_convolution(child):
            child.__class__ = MixedTemporalConv
        elif type(child) is nn.Linear:
            is_projection = name.rpartition(".")[2] in PROJECTIONS
            child.__class__ = MixedProjection if is_projection else MixedLinear
    return module


def use_fast_products(module: nn.Module) -> nn.Module:
    """As `use_mixed_precision` where bfloat16 pays; nothing is changed where it does not."""
    return use_mixed_precision(module) if bfloat16_pays() else module
