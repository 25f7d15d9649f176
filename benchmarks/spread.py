"""How repeated measurements spread, and ratios of those that were taken in the same turn."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """Median, quartiles and range of `count` values."""

    median: float
    low_quartile: float
    high_quartile: float
    least: float
    most: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value; the quartiles include the range's ends."""
        if len(values) == 1:
            low = median = high = values[0]
        else:
            low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high, min(values), max(values), len(values))


def times_faster(theirs: Sequence[float], ours: Sequence[float]) -> Spread:
    """Seconds of theirs over ours, turn by turn; a turn that only one has does not count."""
    return Spread.of([other / own for other, own in zip(theirs, ours, strict=False)])
