"""Figures of reports, picked out, pooled and put into words.

Knows reports and how a share is written in Markdown; does not know where a report comes from or on
which page a figure stands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from unsee.evaluation.report.schema import Group, Media, Rate, RatePair, Report, Wording
from unsee.evaluation.report.schema import pooled as report_counts
from unsee.evaluation.report.statistics import rate_of_counts

Pick = Callable[[Report], list[RatePair]]
"""The rows of a report that belong to one figure; pooling adds up their hits."""

Frames = Literal["any", "mean"]
ORDINARY: tuple[Wording, ...] = ("alone", "context")
REWRITTEN: tuple[Wording, ...] = ("long", "synonym")
EVERY_WORDING = (*ORDINARY, *REWRITTEN)
NOTHING = "–"


def erased(media: Media, wordings: Iterable[Wording], frames: Frames = "any") -> Pick:
    """Whether what should be gone is recognised, in any frame or in the mean over frames."""
    wanted = set(wordings)
    return lambda report: [
        row.any_frame if frames == "any" else row.mean_frame
        for row in report.erased
        if row.media == media and row.wording in wanted
    ]


def kept(media: Media, group: Group) -> Pick:
    """Whether what should stay is recognised."""
    return lambda report: [
        row.recognised for row in report.kept if row.media == media and row.group == group
    ]


def attacked(attack: str, media: Media) -> Pick:
    """Whether an attack brings the concept back, in any frame."""
    return lambda report: [
        row.recognised for row in report.attacks if row.attack == attack and row.media == media
    ]


def attack_names(reports: Iterable[Report]) -> list[str]:
    """The attacks that any of the reports holds, in their order."""
    return list(dict.fromkeys(row.attack for report in reports for row in report.attacks))


def pooled(reports: Iterable[Report], pick: Pick) -> RatePair:
    """What ``pick`` finds in all of the reports, as one."""
    pairs = [pair for report in reports for pair in pick(report)]
    return RatePair(
        tuned=_summed([pair.tuned for pair in pairs]), base=_summed([pair.base for pair in pairs])
    )


def _summed(rates: Sequence[Rate]) -> Rate:
    return rate_of_counts(*report_counts(list(rates)))


def relative(pair: RatePair) -> float:
    """The tuned encoder's share in units of the base's; NaN where that is nothing."""
    return pair.tuned.share / pair.base.share if pair.base.hits else math.nan


def percent(rate: Rate) -> str:
    """A share with its interval and n: ``"12.5 % [2.2, 47.1] of 8"``."""
    return _percent(rate, 1.0)


def relative_percent(pair: RatePair) -> str:
    """The tuned share and its interval, both in units of the base's share, and n."""
    return _percent(pair.tuned, pair.base.share) if pair.base.hits else NOTHING


def _percent(rate: Rate, unit: float) -> str:
    if not rate.n:
        return NOTHING
    share, low, high = (100 * value / unit for value in (rate.share, rate.low, rate.high))
    return f"{share:.1f} % [{low:.1f}, {high:.1f}] of {rate.n}"


def before_and_after(pair: RatePair) -> str:
    """``base → tuned`` in hits of n."""
    if not pair.tuned.n:
        return NOTHING
    return f"{pair.base.hits} → **{pair.tuned.hits}** of {pair.tuned.n}"


def motion_ratio(reports: Iterable[Report]) -> float:
    """The mean of the reports' motion ratios; NaN without any."""
    return mean([report.motion.ratio.value for report in reports if report.motion])


def mean(values: Sequence[float]) -> float:
    """NaN without values."""
    return sum(values) / len(values) if values else math.nan


def spread(values: Sequence[float], digits: int) -> str:
    """The mean and, where they differ, the range: ``"1.02 (0.91 to 1.13)"``."""
    found = [value for value in values if math.isfinite(value)]
    if not found:
        return NOTHING
    low, high = (f"{value:,.{digits}f}" for value in (min(found), max(found)))
    middle = f"{mean(found):,.{digits}f}"
    return middle if low == high else f"{middle} ({low} to {high})"


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    return [
        _row(titles),
        "|---" * len(titles) + "|",
        *(_row(row) for row in rows),
    ]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
