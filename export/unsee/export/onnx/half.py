"""A copy of a model in half precision, beside the float32 one; knows modules, not what they do."""

import copy
from typing import Any

import torch


def half_copy(model: Any) -> Any:
    """`model` with float16 parameters and buffers; `model` itself stays as it is.

    The float32 weights are never copied, so both together take one and a half times the memory.
    Tied weights stay tied.
    """
    halves: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            halves[id(tensor)] = _half(tensor)
    return copy.deepcopy(model, halves)


def _half(tensor: torch.Tensor) -> torch.Tensor:
    half = tensor.detach().to(torch.float16)
    is_parameter = isinstance(tensor, torch.nn.Parameter)
    return torch.nn.Parameter(half, requires_grad=False) if is_parameter else half
