"""What a mode of unlearning reports while it learns and hands back when it is done."""

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Estimate:
    """After `step` of at most `total` steps: the loss, and the running estimates in 0..1.

    `erased` and `kept` are None in a mode that has no such estimate.
    """

    step: int
    total: int
    loss: float
    erased: float | None = None
    kept: float | None = None


Progress = Callable[[Estimate], None]


@dataclass(frozen=True)
class Learned:
    """A delta's tensors and what its card says about how they came about."""

    tensors: dict[str, torch.Tensor]
    losses: tuple[float, ...]
    stopped: str
    erased: float | None = None
    kept: float | None = None
    anchor: str | None = None
