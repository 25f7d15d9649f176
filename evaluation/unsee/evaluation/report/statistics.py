"""Shares, means and ratios with their 95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unsee.evaluation.report.rates import rate_of_counts
from unsee.evaluation.report.schema import Mean, Rate

NUM_RESAMPLES = 2000
_TAILS = (2.5, 97.5)


def rate_of(outcomes: Sequence[bool] | NDArray[np.bool_]) -> Rate:
    """The share of true outcomes; see `rate_of_counts`."""
    return rate_of_counts(int(np.count_nonzero(outcomes)), len(outcomes))


def mean_of(values: Sequence[float] | NDArray[np.floating[Any]], seed: int) -> Mean:
    """The mean with a percentile bootstrap interval (Efron & Tibshirani, 1993, chapter 13).

    Raises `ValueError` without values.
    """
    sample = _sample(values)
    means = sample[_resamples(len(sample), seed)].mean(axis=1)
    return _interval(float(sample.mean()), means, len(sample))


def ratio_of(
    tuned: Sequence[float] | NDArray[np.floating[Any]],
    base: Sequence[float] | NDArray[np.floating[Any]],
    seed: int,
) -> Mean:
    """mean(tuned) / mean(base), with a bootstrap interval over the pairs (tuned[i], base[i]).

    A resample whose base mean is 0 has no ratio and is left out. Raises `ValueError` without
    values, for unequal lengths, or if the base's mean is 0.
    """
    over, under = _sample(tuned), _sample(base)
    if len(over) != len(under):
        raise ValueError(f"{len(over)} tuned values cannot be paired with {len(under)} of the base")
    if under.mean() == 0:
        raise ValueError("a ratio to a mean of 0 is not defined")
    rows = _resamples(len(over), seed)
    tops, bottoms = over[rows].mean(axis=1), under[rows].mean(axis=1)
    defined = bottoms != 0
    ratios = tops[defined] / bottoms[defined]
    return _interval(float(over.mean() / under.mean()), ratios, len(over))


def _sample(values: Sequence[float] | NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    sample = np.asarray(values, dtype=np.float64)
    if sample.size == 0:
        raise ValueError("no values to take the mean of")
    return sample


def _resamples(n: int, seed: int) -> NDArray[np.int64]:
    """Indices [NUM_RESAMPLES, n], drawn with replacement."""
    return np.random.default_rng(seed).integers(n, size=(NUM_RESAMPLES, n))


def _interval(value: float, resampled: NDArray[np.float64], n: int) -> Mean:
    low, high = np.percentile(resampled, _TAILS)
    return Mean(value=value, low=float(low), high=float(high), n=n)
