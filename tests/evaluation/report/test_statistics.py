"""Intervals against values known from elsewhere, and what they must do at the edges."""

import numpy as np
import pytest

from unsee.evaluation.report.rates import excess_of, rate_of_counts
from unsee.evaluation.report.statistics import mean_of, rate_of, ratio_of


def test_wilson_interval_of_a_published_example() -> None:
    rate = rate_of([True] * 81 + [False] * (263 - 81))  # Newcombe 1998, table I, method 3
    assert (rate.hits, rate.n) == (81, 263)
    assert rate.low == pytest.approx(0.2553, abs=5e-5)
    assert rate.high == pytest.approx(0.3662, abs=5e-5)


def test_rates_at_the_edges() -> None:
    assert (rate_of([]).low, rate_of([]).high) == (0, 1)
    none = rate_of([False] * 8)
    assert none.low == 0
    assert none.high == pytest.approx(0.3244, abs=5e-5)
    assert rate_of(np.array([True] * 8)).high == 1


def test_mean_and_its_interval() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    mean = mean_of(values, seed=1)
    half = 1.96 * values.std() / 20
    assert mean.value == pytest.approx(values.mean())
    assert mean.low == pytest.approx(values.mean() - half, rel=0.02)
    assert mean.high == pytest.approx(values.mean() + half, rel=0.02)
    assert mean == mean_of(values, seed=1) != mean_of(values, seed=2)
    assert mean_of([3.0], seed=0).low == 3.0


def test_a_ratio_is_paired() -> None:
    base = np.array([1.0, 10.0, 100.0])
    ratio = ratio_of(2.0 * base, base, seed=0)
    assert (ratio.value, ratio.low, ratio.high, ratio.n) == (2, 2, 2, 3)  # pairs leave no spread
    assert ratio_of([1.0, 1.0], [0.0, 2.0], seed=0).value == 1


def test_what_has_no_figure_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        mean_of([], seed=0)
    with pytest.raises(ValueError, match="not defined"):
        ratio_of([1.0], [0.0], seed=0)
    with pytest.raises(ValueError, match="paired"):
        ratio_of([1.0, 2.0], [1.0], seed=0)


@pytest.mark.parametrize(
    ("counts", "interval"),
    [
        ((56, 70, 48, 80), (0.0524, 0.3339)),
        ((9, 10, 3, 10), (0.1705, 0.8090)),
        ((5, 56, 0, 29), (-0.0381, 0.1926)),
        ((10, 10, 0, 20), (0.6791, 1.0)),
    ],
)
def test_an_excess_has_newcombes_interval(
    counts: tuple[int, int, int, int], interval: tuple[float, float]
) -> None:
    """The examples (a), (c), (e) and (g) of his table II, method 10."""
    hits, n, floor_hits, floor_n = counts
    found = excess_of(rate_of_counts(hits, n), rate_of_counts(floor_hits, floor_n))
    assert found.value == pytest.approx(hits / n - floor_hits / floor_n)
    assert (found.low, found.high) == pytest.approx(interval, abs=6e-5)


def test_nothing_asked_has_no_excess() -> None:
    with pytest.raises(ValueError, match="no samples"):
        excess_of(rate_of_counts(0, 0), rate_of_counts(1, 2))
