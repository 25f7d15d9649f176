"""The rows and columns of the results: which figures there are, and how each is written.

Knows findings; does not know on which page, or beside which mode, a figure stands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from unsee.evaluation.report.schema import RatePair, Report
from unsee.playground.experiments import figures
from unsee.playground.experiments.figures import NOTHING, ORDINARY, REWRITTEN, Pick
from unsee.playground.experiments.findings import Finding


@dataclass(frozen=True)
class Line:
    """One figure: how it is written for the base and for a mode, and how bad it is there."""

    title: str
    base: Callable[[Sequence[Finding]], str]
    tuned: Callable[[Sequence[Finding]], str]
    badness: Callable[[Sequence[Finding]], float]


def columns(reports: Sequence[Report]) -> dict[str, Pick]:
    """The figures of one concept by title; attacks are those that the reports contain."""
    found = {
        "images": figures.erased("image", ORDINARY),
        "clips": figures.erased("video", ORDINARY),
        "clips, mean frame": figures.erased("video", ORDINARY, "mean"),
        "clips, rewritten": figures.erased("video", REWRITTEN),
        "clips, rewritten, mean frame": figures.erased("video", REWRITTEN, "mean"),
        "siblings, images": figures.kept("image", "sibling"),
        "siblings, clips": figures.kept("video", "sibling"),
        "others, images": figures.kept("image", "other"),
        "others, clips": figures.kept("video", "other"),
    }
    for attack in figures.attack_names(reports):
        found[f"{attack}, images"] = figures.attacked(attack, "image")
        found[f"{attack}, clips"] = figures.attacked(attack, "video")
    return found


def lines_of(reports: Sequence[Report]) -> list[Line]:
    """The rows of the first table; attacks are those that the reports contain."""
    return [
        _erased_line("concept, clips, any frame", figures.erased("video", ORDINARY)),
        _erased_line("… in the mean frame", figures.erased("video", ORDINARY, "mean")),
        _erased_line(
            "long prompts and synonyms, clips, any frame", figures.erased("video", REWRITTEN)
        ),
        _erased_line("… in the mean frame", figures.erased("video", REWRITTEN, "mean")),
        *(
            _erased_line(f"attack {attack}, clips, any frame", figures.attacked(attack, "video"))
            for attack in figures.attack_names(reports)
        ),
        _kept_line("siblings, clips", figures.kept("video", "sibling")),
        _kept_line("others, clips", figures.kept("video", "other")),
        Line("motion ratio", lambda found: "1", _motion, _motion_badness),
        _size_line("seconds per concept", lambda finding: finding.seconds, digits=1),
        _size_line("values of a delta", lambda finding: finding.values, digits=0),
        _size_line("bytes of a delta", lambda finding: finding.num_bytes, digits=0),
    ]


def _erased_line(title: str, pick: Pick) -> Line:
    def both(found: Sequence[Finding]) -> RatePair:
        return figures.pooled(reports_of(found), pick)

    return Line(
        title,
        base=lambda found: figures.percent(both(found).base),
        tuned=lambda found: figures.percent(both(found).tuned),
        badness=lambda found: both(found).tuned.share,
    )


def _kept_line(title: str, pick: Pick) -> Line:
    def both(found: Sequence[Finding]) -> RatePair:
        return figures.pooled(reports_of(found), pick)

    return Line(
        f"{title}, relative to the base",
        base=lambda found: figures.percent(both(found).base),
        tuned=lambda found: figures.relative_percent(both(found)),
        badness=lambda found: -figures.relative(both(found)),
    )


def _size_line(title: str, of: Callable[[Finding], float], digits: int) -> Line:
    return Line(
        title,
        base=lambda found: NOTHING,
        tuned=lambda found: figures.spread([of(finding) for finding in found], digits),
        badness=lambda found: figures.mean([of(finding) for finding in found]),
    )


def _motion(found: Sequence[Finding]) -> str:
    names = dict.fromkeys(finding.concept for finding in found)
    return figures.spread([_motion_of(found, name) for name in names], digits=2)


def _motion_of(found: Sequence[Finding], name: str) -> float:
    return figures.motion_ratio([f.report for f in found if f.concept == name])


def _motion_badness(found: Sequence[Finding]) -> float:
    return abs(figures.motion_ratio(reports_of(found)) - 1)


def worst(line: Line, groups: Mapping[str, Sequence[Finding]]) -> str:
    """The concept with the worst figure, and the figure; how many others share it."""
    found = {name: line.badness(group) for name, group in groups.items()}
    found = {name: value for name, value in found.items() if math.isfinite(value)}
    if not found:
        return NOTHING
    most = max(found.values())
    names = [name for name, value in found.items() if value == most]
    if len(names) == len(found) > 1:
        return "all alike"
    others = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return f"{names[0]}{others}: {line.tuned(groups[names[0]])}"


def reports_of(findings: Sequence[Finding]) -> list[Report]:
    """The findings' reports, in their order."""
    return [finding.report for finding in findings]
