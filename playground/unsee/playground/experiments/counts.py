"""What a report counts, as the records of experiments keep it: hits of the tuned and the base's
encoder in n answers."""

from __future__ import annotations

from collections.abc import Iterable

from unsee.evaluation.report.schema import Group, Media, RatePair, Report, Wording

ORDINARY: tuple[Wording, ...] = ("alone", "context")
REWRITTEN: tuple[Wording, ...] = ("long", "synonym")
EVERY_WORDING = (*ORDINARY, *REWRITTEN)
MEDIA: dict[str, Media] = {"images": "image", "clips": "video"}

Counts = dict[str, int]
"""``{"tuned": 2, "base": 12, "n": 12}``; n is 0 where nothing was asked."""


def forgotten(
    report: Report, media: Media, wordings: Iterable[Wording], *, mean_frame: bool = False
) -> Counts:
    """How often what should be gone is recognised in any frame, or in the mean over frames."""
    wanted = set(wordings)
    return _counts(
        row.mean_frame if mean_frame else row.any_frame
        for row in report.erased
        if row.media == media and row.wording in wanted
    )


def kept(report: Report, media: Media, group: Group) -> Counts:
    """How often what should stay is recognised."""
    return _counts(
        row.recognised for row in report.kept if row.media == media and row.group == group
    )


def attacked(report: Report, media: Media) -> dict[str, Counts]:
    """By attack how often it brings the concept back, in any frame."""
    return {
        attack: _counts(
            row.recognised for row in report.attacks if (row.attack, row.media) == (attack, media)
        )
        for attack in dict.fromkeys(row.attack for row in report.attacks)
    }


def motion_ratio(report: Report) -> float | None:
    """The tuned encoder's motion over the base's; None where no clip was asked for."""
    return report.motion.ratio.value if report.motion else None


def answered(counts: dict[str, Counts]) -> dict[str, Counts]:
    """The counts of at least one answer."""
    return {title: each for title, each in counts.items() if each["n"]}


def _counts(pairs: Iterable[RatePair]) -> Counts:
    found = list(pairs)
    return {
        "tuned": sum(pair.tuned.hits for pair in found),
        "base": sum(pair.base.hits for pair in found),
        "n": sum(pair.tuned.n for pair in found),
    }
