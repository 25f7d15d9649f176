"""Wilson intervals, pooled counts, and the excess of one share over another.

Light on purpose (pydantic alone): the gate of `unsee publish` judges with these.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from unsee.evaluation.report.schema import Rate, RatePair, RateTriple

Z_95 = 1.959963984540054


@dataclass(frozen=True)
class Excess:
    """A difference of two shares, from -1 to 1, with its 95 % interval."""

    value: float
    low: float
    high: float


def rate_of_counts(hits: int, n: int) -> Rate:
    """`hits` of `n` with Wilson's score interval (JASA 22, 1927).

    Nothing asked gives n = 0 and the interval [0, 1].
    """
    if n == 0:
        return Rate(hits=0, n=0, low=0.0, high=1.0)
    share = hits / n
    scale = 1 + Z_95**2 / n
    centre = (share + Z_95**2 / (2 * n)) / scale
    half = Z_95 * math.sqrt(share * (1 - share) / n + Z_95**2 / (4 * n * n)) / scale
    low = 0.0 if hits == 0 else max(0.0, centre - half)
    high = 1.0 if hits == n else min(1.0, centre + half)
    return Rate(hits=hits, n=n, low=low, high=high)


def pooled(rates: Iterable[Rate]) -> Rate:
    """All samples of `rates` as one, with the interval of the whole."""
    taken = list(rates)
    return rate_of_counts(sum(rate.hits for rate in taken), sum(rate.n for rate in taken))


def pooled_pair(pairs: Iterable[RatePair]) -> RatePair:
    """All samples of `pairs` as one, with the intervals of the whole."""
    taken = list(pairs)
    return RatePair(
        tuned=pooled(pair.tuned for pair in taken), base=pooled(pair.base for pair in taken)
    )


def pooled_triple(triples: Iterable[RateTriple]) -> RateTriple:
    """All samples of `triples` as one, with the intervals of the whole."""
    taken = list(triples)
    return RateTriple(
        tuned=pooled(triple.tuned for triple in taken),
        base=pooled(triple.base for triple in taken),
        floor=pooled(triple.floor for triple in taken),
    )


def excess_of(rate: Rate, floor: Rate) -> Excess:
    """`rate` - `floor` with Newcombe's hybrid score interval (Statistics in Medicine 17, 1998,
    method 10), which takes the two for independent samples.

    Raises `ValueError` if one of them has no samples.
    """
    if not rate.n or not floor.n:
        raise ValueError("a share of no samples has no excess")
    value = rate.share - floor.share
    below = math.hypot(rate.share - rate.low, floor.high - floor.share)
    above = math.hypot(rate.high - rate.share, floor.share - floor.low)
    return Excess(value, max(-1.0, value - below), min(1.0, value + above))
