"""Half precision inside, float32 outside: how the frozen image model is kept small."""

from collections.abc import Iterable
from typing import Any

import torch

_HALVES = (torch.float16, torch.bfloat16)


def take_and_give_float32(modules: Iterable[torch.nn.Module]) -> None:
    """Let modules whose weights are half precision be called as if they were float32.

    Floating-point inputs of `forward` are cast to the weights' dtype, but for a `timestep`, which
    half precision would move; its result (tensors, or diffusers' output of one `sample`) is cast
    back to float32. The casts carry gradients. A model may keep some of its weights in float32.
    """
    for module in modules:
        dtypes = [parameter.dtype for parameter in module.parameters()]
        dtype = next((each for each in dtypes if each in _HALVES), torch.float32)
        module.register_forward_pre_hook(_Casts(dtype).inputs, with_kwargs=True)
        module.register_forward_hook(_give_float32)


class _Casts:
    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype

    def inputs(
        self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        cast = tuple(self._cast(value) for value in args)
        return cast, {
            name: value if name == "timestep" else self._cast(value)
            for name, value in kwargs.items()
        }

    def _cast(self, value: Any) -> Any:
        is_floating = isinstance(value, torch.Tensor) and value.is_floating_point()
        return value.to(self._dtype) if is_floating else value


def _give_float32(module: torch.nn.Module, inputs: Any, output: Any) -> Any:
    if isinstance(output, torch.Tensor):
        return output.float()
    if isinstance(output, tuple):
        return tuple(
            value.float() if isinstance(value, torch.Tensor) else value for value in output
        )
    return type(output)(sample=output.sample.float())
