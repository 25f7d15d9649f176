"""Rules of when a clip counts as showing a concept, compared on the record of `floors`.

Light: the page is rendered with these, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unsee.evaluation.report.rates import excess_of, rate_of_counts

SIDES = ("base", "tuned", "floor")

Clips = dict[str, list[int]]
"""By side, per clip, how many frames show the concept; `SIDES` name the sides."""


@dataclass(frozen=True)
class RuleLine:
    """One rule over all clips: its name and what it says of ``n`` clips of each side.

    ``separation`` is the base's share less the floor's; ``excess`` the tuned one's less the
    floor's, with the ends of its 95 % interval.
    """

    rule: str
    n: int
    base: int
    tuned: int
    floor: int
    separation: float
    excess: float
    low: float
    high: float


def rule_lines(concepts: Sequence[dict[str, Any]]) -> list[RuleLine]:
    """Every rule over all concepts whose frames were counted, "any frame" first."""
    with_frames = [one for one in concepts if one["clips"]]
    if not with_frames:
        return []
    clips: Clips = {
        side: [count for one in with_frames for row in one["clips"].values() for count in row[side]]
        for side in SIDES
    }
    num_frames = with_frames[0]["num_frames"]
    lines = [
        _line(
            rule_name(least, num_frames),
            {side: sum(count >= least for count in counts) for side, counts in clips.items()},
            len(clips["tuned"]),
        )
        for least in range(1, num_frames + 1)
    ]
    whole = [each for one in with_frames for each in one["whole"].values()]
    hits = {side: sum(each[side] for each in whole) for side in SIDES}
    return [*lines, _line("mean frame", hits, sum(each["n"] for each in whole))]


def rule_name(least: int, num_frames: int) -> str:
    """What the rule is called that asks for ``least`` of ``num_frames`` frames."""
    return "any frame" if least == 1 else f"at least {least} of {num_frames} frames"


def in_words(line: RuleLine) -> str:
    """A line of the printed table."""
    shares = ", ".join(f"{side} {100 * getattr(line, side) / line.n:.1f} %" for side in SIDES)
    return (
        f"{line.rule:>16}: {shares}; separation {100 * line.separation:.1f} points, excess "
        f"{100 * line.excess:.1f} ({100 * line.low:.1f} to {100 * line.high:.1f}), n {line.n}"
    )


def _line(rule: str, hits: dict[str, int], n: int) -> RuleLine:
    rates = {side: rate_of_counts(hits[side], n) for side in SIDES}
    excess = excess_of(rates["tuned"], rates["floor"])
    return RuleLine(
        rule=rule,
        n=n,
        **hits,
        separation=rates["base"].share - rates["floor"].share,
        excess=excess.value,
        low=excess.low,
        high=excess.high,
    )
