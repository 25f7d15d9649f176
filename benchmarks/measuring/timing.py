"""Ways that are timed in turn, how their seconds spread, and ratios turn by turn."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Name = TypeVar("Name", bound=Hashable)
Result = TypeVar("Result")


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


def seconds_of(work: Callable[[], Any]) -> float:
    """How long one call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turn(ways: Mapping[str, Callable[[], Any]], turns: int) -> dict[str, list[float]]:
    """Seconds by way, one a turn; who begins changes with every turn."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for turn in range(turns):
        for name in names if turn % 2 else reversed(names):
            seconds[name].append(seconds_of(ways[name]))
    return seconds


def in_random_turns(
    ways: Mapping[Name, Callable[[], Result]], turns: int, seed: int, say: Callable[[str], None]
) -> dict[Name, list[Result]]:
    """What each way returns, once a turn; their order is drawn anew for every turn."""
    chance = random.Random(seed)
    found: dict[Name, list[Result]] = {name: [] for name in ways}
    for turn in range(turns):
        say(f"turn {turn + 1} of {turns}")
        for name in chance.sample(list(ways), len(ways)):
            found[name].append(ways[name]())
    return found
