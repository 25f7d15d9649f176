"""Oblique projections: they remove what they should, move what is kept least, stay in budget."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unsee.unlearning.projection import FEWEST_DIRECTIONS, readouts, removable

SIZE = 6
SEEDS = st.integers(0, 999)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _covariance(seed: int) -> torch.Tensor:
    states = torch.randn(80, SIZE, generator=_generator(seed), dtype=torch.float64)
    return torch.cov((states * torch.linspace(0.5, 2.0, SIZE, dtype=torch.float64)).T)


def _directions(seed: int, count: int) -> torch.Tensor:
    rows = torch.randn(SIZE, count, generator=_generator(seed + 5000), dtype=torch.float64)
    basis: torch.Tensor = torch.linalg.qr(rows).Q
    return basis.T


def _moved(matrix: torch.Tensor, covariance: torch.Tensor) -> float:
    change = matrix - torch.eye(SIZE, dtype=torch.float64)
    return float((change @ covariance * change).sum() / covariance.trace())


@given(seed=SEEDS, count=st.integers(1, SIZE), budget=st.sampled_from([1e-6, 0.1, 0.3, 1.1]))
@settings(deadline=None)
def test_leading_directions_as_far_as_the_budget_goes(seed: int, count: int, budget: float) -> None:
    candidates, kept = _directions(seed, count), _covariance(seed)
    up, moved = removable(candidates, kept, budget)
    taken = up.shape[1]
    unit = torch.eye(taken, dtype=torch.float64)
    torch.testing.assert_close(up.T @ up, unit, atol=1e-9, rtol=0)
    torch.testing.assert_close(up @ up.T @ candidates[:taken].T, candidates[:taken].T)
    assert taken >= min(count, FEWEST_DIRECTIONS)
    assert moved <= budget or taken <= FEWEST_DIRECTIONS
    if taken < count:
        _, more = removable(candidates[: taken + 1], kept, 2.0)
        assert more > budget


@given(seed=SEEDS)
@settings(deadline=None)
def test_a_direction_that_is_there_already_does_not_count(seed: int) -> None:
    one, two = _directions(seed, 2)
    candidates = torch.stack([one, -2 * one, one + 0.01 * two, two])
    up, _ = removable(candidates, _covariance(seed), 2.0)
    assert up.shape == (SIZE, 2)
    torch.testing.assert_close(up @ up.T @ two, two)


@given(seed=SEEDS, rank=st.integers(1, 3))
@settings(deadline=None)
def test_it_is_a_projection_that_moves_kept_states_less_than_others(seed: int, rank: int) -> None:
    up, kept = _directions(seed, rank).T, _covariance(seed)
    matrix = torch.eye(SIZE, dtype=torch.float64) - up @ readouts(up, kept)
    torch.testing.assert_close(matrix @ matrix, matrix, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(matrix @ up, torch.zeros_like(up), atol=1e-5, rtol=0)
    best = _moved(matrix, kept)
    assert best == pytest.approx(removable(up.T, kept, 2.0)[1], rel=0.05)
    generator = _generator(seed)
    for _ in range(5):
        other = up.T + 0.3 * torch.randn(rank, SIZE, generator=generator, dtype=torch.float64)
        other = torch.linalg.solve(other @ up, other)
        oblique = torch.eye(SIZE, dtype=torch.float64) - up @ other
        assert _moved(oblique, kept) >= best - 1e-3
