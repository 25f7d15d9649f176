"""Muon: momentum whose matrix is orthogonalised before each step (Jordan et al., 2024).

Autoencoders learn the singular directions of their data one after another under Adam;
equalising the update's singular values learns them at once, which on a CPU's budget of a
few thousand steps decides whether colours come out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

# Coefficients of the first three quintics of Polar Express (arXiv 2505.16932).
QUINTICS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
)


def orthogonalised(matrix: Tensor) -> Tensor:
    """Roughly the nearest semi-orthogonal matrix; [rows, columns], rounded to bfloat16."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.t() if tall else matrix).bfloat16()
    x = x / (x.norm() * 1.01 + 1e-7)
    for a, b, c in QUINTICS:
        gram = x @ x.t()
        polynomial = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.addmm(x, polynomial, x, beta=a)
    return x.t() if tall else x


class Muon(torch.optim.Optimizer):
    """For weights of two or more dimensions; each step's RMS is comparable to Adam's."""

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        if closure is not None:
            raise NotImplementedError("Muon takes no closure")
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.update(parameter, parameter.grad, group)
        return None

    def update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        average = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        direction = gradient.lerp(average, group["momentum"])  # Nesterov
        order, rows = column_order(parameter), parameter.shape[0]
        matrix = direction.permute(order).flatten(1)
        weight = parameter.permute(order).view(rows, -1)  # fails where it would be a copy
        # 0.2 * sqrt(larger side) brings the update's RMS to Adam's usual 0.2.
        scale = 0.2 * max(matrix.shape) ** 0.5
        if group["weight_decay"]:
            weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(orthogonalised(matrix), alpha=-group["lr"] * scale)


def column_order(parameter: Tensor) -> tuple[int, ...]:
    """The order of dimensions in memory, so that the weight is a matrix without a copy."""
    if parameter.ndim < 3 or parameter.is_contiguous():
        return tuple(range(parameter.ndim))
    return (0, *range(2, parameter.ndim), 1)  # channels last


def is_matrix(parameter: Tensor) -> bool:
    rows = parameter.shape[0] if parameter.ndim > 1 else 1
    return 1 < rows < parameter.numel()


def split_parameters(module: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Trainable weights for Muon, and those for AdamW: vectors and look-up tables.

    A weight of several dimensions whose matrix would be one row or column is a vector.
    """
    tables = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    trainable: list[Tensor] = [p for p in module.parameters() if p.requires_grad]
    matrices = [p for p in trainable if is_matrix(p) and id(p) not in tables]
    chosen = {id(p) for p in matrices}
    return matrices, [p for p in trainable if id(p) not in chosen]
