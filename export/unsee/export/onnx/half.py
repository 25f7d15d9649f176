"""Copies of a model in another precision, beside it; knows modules, not what they do."""

import copy
from typing import Any

import torch


def half_copy(model: Any) -> Any:
    """`model` with float16 parameters and buffers; `model` itself stays as it is.

    The float32 weights are never copied, so both together take one and a half times the memory.
    Tied weights stay tied.
    """
    return copy_in(torch.float16, model)


def in_float32(model: Any) -> Any:
    """`model` if it is float32, else a copy that is, of the same values; tied weights stay tied."""
    dtypes = {tensor.dtype for tensor in model.parameters()}
    return model if dtypes <= {torch.float32} else copy_in(torch.float32, model)


def copy_in(dtype: torch.dtype, model: Any) -> Any:
    """A copy whose parameters and buffers of real numbers are `dtype`; nothing else is made of them
    on the way."""
    tensors: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensors[id(tensor)] = _converted(tensor, dtype)
    return copy.deepcopy(model, tensors)


def _converted(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    converted = tensor.detach().to(dtype)
    is_parameter = isinstance(tensor, torch.nn.Parameter)
    return torch.nn.Parameter(converted, requires_grad=False) if is_parameter else converted
