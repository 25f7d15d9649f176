"""Oblique projections: edits that remove directions of a state and move kept states least."""

from dataclasses import dataclass

import torch

from unsee.deltas.edit import Edit
from unsee.unlearning.moments import ForgetMoments, KeepMoments

_RIDGE = 1e-3
FEWEST_DIRECTIONS = 4
"""Removed whatever they cost: with fewer a concept is still seen."""
_NEW = 0.1
"""How much of a direction must lie outside those before it for it to count as a new one."""


@dataclass(frozen=True)
class Fit:
    """An edit and how well it does.

    `erase` is E |z + D (z - m) - z*|^2 / E |z* - z|^2 over the prompts that name the concept: 1
    without an edit, 0 at best; `made` is E d^T D (z - m) / E |d|^2. `keep` is the share of the
    variance of kept states that is moved.
    """

    edit: Edit
    erase: float
    made: float
    keep: float

    @property
    def erased(self) -> float:
        """The share of the wanted changes that the edit makes, in 0..1; past the anchor is 1."""
        return min(max(self.made, 0.0), 1.0)

    @property
    def rank(self) -> int:
        """How many directions the edit removes."""
        return self.edit.up.shape[1]


def fitted(
    forget: ForgetMoments,
    attacked: ForgetMoments,
    keep: KeepMoments,
    kept_at_least: float,
    rank: int,
) -> Fit:
    """The edit that removes the main directions of the wanted changes, at most `rank`, one after
    the other while `kept_at_least` of the kept variance is left alone."""
    vectors = torch.linalg.eigh(forget.directions + attacked.directions).eigenvectors
    candidates = vectors.flip(1).T[:rank]
    up, moved = removable(candidates, keep.covariance, 1 - kept_at_least)
    down = readouts(up, keep.covariance)
    matrix = -up @ down
    moved_size = float((matrix @ forget.states * matrix).sum()) / forget.change_size
    made = float((matrix * forget.changes.T).sum()) / forget.change_size
    return Fit(
        edit=Edit(up.float(), down.float(), (down @ keep.mean).float()),
        erase=1 + moved_size - 2 * made,
        made=made,
        keep=moved,
    )


def removable(
    candidates: torch.Tensor, kept: torch.Tensor, budget: float
) -> tuple[torch.Tensor, float]:
    """Orthonormal directions [D, r] of the leading `candidates` [n, D], and the share of the
    variance of states with covariance `kept` that removing them moves: at most `budget`, unless
    the first `FEWEST_DIRECTIONS` take more.

    Removing the directions U by the oblique projection I - U (U^T S^-1 U)^-1 U^T S^-1, which of
    all that send U to 0 moves states of covariance S least (Belrose et al., LEACE, arXiv
    2306.03819, theorem 4.3), moves tr (U^T S^-1 U)^-1 of the variance.
    """
    inverse = torch.linalg.inv(_ridged(kept))
    up, moved = torch.zeros(len(kept), 0, dtype=kept.dtype), 0.0
    for candidate in candidates:
        fresh = candidate - up @ (up.T @ candidate)
        if fresh.norm() < _NEW * candidate.norm():
            continue
        longer = torch.cat([up, (fresh / fresh.norm())[:, None]], dim=1)
        share = float(torch.linalg.inv(longer.T @ inverse @ longer).trace() / kept.trace())
        if share > budget and up.shape[1] >= FEWEST_DIRECTIONS:
            break
        up, moved = longer, share
    return up, moved


def readouts(up: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """(U^T S^-1 U)^-1 U^T S^-1 [r, D]: what of a state lies along each direction of `up` [D, r]."""
    whitened = torch.linalg.solve(_ridged(kept), up)
    readouts: torch.Tensor = torch.linalg.solve(up.T @ whitened, whitened.T)
    return readouts


def _ridged(covariance: torch.Tensor) -> torch.Tensor:
    unit = torch.eye(len(covariance), dtype=covariance.dtype)
    return covariance + _RIDGE * covariance.diagonal().mean() * unit
