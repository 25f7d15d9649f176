"""Figures of the records as the pages write them: the templates' filters.

A *spread* is a record of repeated measurements with `median`, `low_quartile`, `high_quartile`,
`least` and `most`. A *pair* counts how often something was recognised in `n` answers of the tuned
encoder and of the base: `{"tuned": 2, "base": 12, "n": 12}`; with `floor`, also in answers of the
base to neutral prompts; with `retrained`, of a base that never learned the concept.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from unsee.evaluation.report.rates import excess_of, rate_of_counts

Record = Mapping[str, Any]
NOTHING = "–"


def fixed(value: float | None, digits: int = 0) -> str:
    """With so many digits after the point: `"1234.5"`; a dash for what could not be measured."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def grouped(value: float, digits: int = 0) -> str:
    """As `fixed`, with commas between thousands: `"1,234.5"`."""
    return f"{value:,.{digits}f}"


def share(value: float, digits: int = 0) -> str:
    """A share of 1 in per cent: `"41%"`."""
    return f"{value:.{digits}%}"


def quartiles(spread: Record, digits: int) -> str:
    """Both quartiles: `"0.51–0.53"`."""
    return f"{spread['low_quartile']:.{digits}f}–{spread['high_quartile']:.{digits}f}"


def ratio(spread: Record | None, digits: int = 2) -> str:
    """Median and quartiles, `"1.45 (1.41–1.46)"`; nothing of None."""
    if spread is None:
        return ""
    return f"{spread['median']:.{digits}f} ({quartiles(spread, digits)})"


def seconds(spread: Record | None) -> str:
    """Median and quartiles, to the millisecond below one second; nothing of None."""
    return ratio(spread, 3 if spread is not None and spread["median"] < 1 else 2)


def machine(record: Record, threads: int | None = None) -> str:
    """A machine's processor, what it computes in, how many threads were used, and the versions."""
    units = [name for name in ("BF16", "FP16", "INT8") if name in record["capabilities"]]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    used = f", {threads} thread{'s' if threads > 1 else ''}" if threads else ""
    return f"{record['cpu']} ({record['threads']} cores; {', '.join(units)}){used}; {versions}."


def median(values: Iterable[float]) -> float:
    """The median; NaN without values."""
    found = list(values)
    return statistics.median(found) if found else math.nan


def pooled(pairs: Iterable[Record]) -> dict[str, int]:
    """Pairs as one: their counts added up; with a floor if each of them has one, and so on."""
    found = list(pairs)
    more = [side for side in ("floor", "retrained") if found and all(side in one for one in found)]
    return {name: sum(pair[name] for pair in found) for name in ("tuned", "base", "n", *more)}


def percent(pair: Record, side: str = "tuned") -> str:
    """One side's share with Wilson's 95 % interval: `"12.5 % [2.2, 47.1] of 8"`."""
    return _percent(pair[side], pair["n"], 1.0) if side in pair else NOTHING


def excess(pair: Record, over: str = "floor") -> str:
    """The tuned share over another in percentage points, with Newcombe's 95 % interval."""
    if not pair["n"] or over not in pair:
        return NOTHING
    tuned, floor = (rate_of_counts(pair[side], pair["n"]) for side in ("tuned", over))
    found = excess_of(tuned, floor)
    value, low, high = (100 * each for each in (found.value, found.low, found.high))
    return f"{value:+.1f} [{low:.1f}, {high:.1f}]"


def relative_percent(pair: Record) -> str:
    """The tuned share and its interval, both in units of the base's share."""
    return _percent(pair["tuned"], pair["n"], pair["base"] / pair["n"]) if pair["base"] else NOTHING


def _percent(hits: int, n: int, unit: float) -> str:
    if not n:
        return NOTHING
    rate = rate_of_counts(hits, n)
    value, low, high = (100 * each / unit for each in (rate.share, rate.low, rate.high))
    return f"{value:.1f} % [{low:.1f}, {high:.1f}] of {n}"


def before_after(pair: Record) -> str:
    """Hits with the base's encoder and with the tuned one: `"12 → **0** of 12"`; with the floor's
    where it was asked: `"12 → **0** of 12, floor 1"`."""
    if not pair["n"]:
        return NOTHING
    floor = f", floor {pair['floor']}" if "floor" in pair else ""
    return f"{pair['base']} → **{pair['tuned']}** of {pair['n']}{floor}"


def mean(values: Iterable[float | None], digits: int = 2) -> str:
    """The mean; None does not count."""
    found = [value for value in values if value is not None]
    return grouped(statistics.fmean(found), digits) if found else NOTHING


def mean_range(values: Iterable[float | None], digits: int = 2) -> str:
    """The mean and, where they differ, the range, `"1.02 (0.91 to 1.13)"`; None does not count."""
    found = [value for value in values if value is not None and math.isfinite(value)]
    if not found:
        return NOTHING
    low, high = (grouped(value, digits) for value in (min(found), max(found)))
    middle = grouped(statistics.fmean(found), digits)
    return middle if low == high else f"{middle} ({low} to {high})"


def pair_titles(variants: Mapping[str, Record]) -> list[str]:
    """The titles of all pairs of the concepts of an ablation, in their order."""
    found = [one for variant in variants.values() for one in variant["concepts"].values()]
    return list(dict.fromkeys(name for one in found for name in one if isinstance(one[name], dict)))


def interference(matrix: Record, worst: int = 10) -> dict[str, Any]:
    """Of a matrix of shares by concept: those on the diagonal, medians of siblings (same category)
    and of other concepts, and the worst pairs (edited, moved, share)."""
    names, categories, shares = matrix["concepts"], matrix["categories"], matrix["shares"]
    size = range(len(names))
    off = [(i, j) for i in size for j in size if i != j]

    def median_of(alike: bool) -> float:
        return median(shares[i][j] for i, j in off if (categories[i] == categories[j]) == alike)

    pairs = sorted(((names[i], names[j], shares[i][j]) for i, j in off), key=lambda p: -p[2])
    return {
        "own": [shares[i][i] for i in size],
        "siblings": median_of(True),
        "others": median_of(False),
        "worst": pairs[:worst],
    }


def step_parts(run: Record) -> dict[str, Record]:
    """Seconds of a step by part in one process, through Triton, and what Triton adds."""
    alone, served = run["step_in_process"], run["step_through_triton"]
    more = {part: served[part] - alone[part] for part in alone}
    return {"in one process": alone, "through Triton": served, "more through Triton": more}


def engines(records: Mapping[str, Any]) -> dict[str, Any]:
    """What templates of engines need beside their records: those of one size each, in order."""
    return {"engines": [one for name, one in records.items() if name.startswith("engines_")]}


def large_packages(sizes: Mapping[str, int]) -> tuple[dict[str, int], int, int]:
    """Those of at least one per cent of the total; the number and the bytes of the others."""
    least = sum(sizes.values()) / 100
    large = {name: size for name, size in sizes.items() if size >= least}
    return large, len(sizes) - len(large), sum(sizes.values()) - sum(large.values())


FILTERS = {
    one.__name__: one
    for one in (
        fixed, grouped, share, ratio, seconds, machine, median, pooled, percent, relative_percent,
        excess, before_after, mean, mean_range, pair_titles, interference, step_parts,
        large_packages,
    )
}  # fmt: skip
