"""What a report counts, as the records of experiments keep it: hits of the tuned and the base's
encoder, and of the floor, in n answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from unsee.evaluation.report.schema import (
    AttackRow,
    Group,
    Media,
    RatePair,
    RateTriple,
    Report,
    ShownRow,
    Wording,
)

ORDINARY: tuple[Wording, ...] = ("alone", "context")
REWRITTEN: tuple[Wording, ...] = ("long", "synonym")
TRANSLATED: tuple[Wording, ...] = ("translated",)
EVERY_WORDING = (*ORDINARY, *REWRITTEN, *TRANSLATED)
MEDIA: dict[str, Media] = {"images": "image", "clips": "video"}

Counts = dict[str, int]
"""``{"tuned": 2, "base": 12, "floor": 1, "n": 12}``; n is 0 where nothing was asked, and what is
kept has no floor."""

Rule = Literal["any_frame", "lasting", "mean_frame"]


def forgotten(
    report: Report, media: Media, wordings: Iterable[Wording], rule: Rule = "any_frame"
) -> Counts:
    """How often what should be gone is recognised by ``rule``."""
    wanted = set(wordings)
    return _counts(
        _by(row, rule) for row in report.erased if row.media == media and row.wording in wanted
    )


def shaped(report: Report, media: Media, rule: Rule = "any_frame") -> Counts:
    """How often what should be gone is recognised under other shapes of its name, by ``rule``."""
    return _counts(_by(row, rule) for row in report.shapes if row.media == media)


def kept(report: Report, media: Media, group: Group) -> Counts:
    """How often what should stay is recognised."""
    return _counts(
        row.recognised for row in report.kept if row.media == media and row.group == group
    )


def attacked(report: Report, media: Media, rule: Rule = "any_frame") -> dict[str, Counts]:
    """By attack (`attack_of`) how often it brings a concept back by ``rule``."""
    return {
        name: _counts(
            _by(row, rule) for row in report.attacks if (attack_of(row), row.media) == (name, media)
        )
        for name in dict.fromkeys(map(attack_of, report.attacks))
    }


def attacked_concepts(report: Report, media: Media) -> dict[str, dict[str, Counts]]:
    """By attack, and by concept of a policy, how often it brings that one back, as the gate counts:
    for a quarter of the frames."""
    by_concept = {
        concept.name: attacked(
            report.model_copy(
                update={"attacks": tuple(r for r in report.attacks if r.concept == concept.name)}
            ),
            media,
            "lasting",
        )
        for concept in report.target.concepts
    }
    return {
        attack: {name: found[attack] for name, found in by_concept.items() if attack in found}
        for attack in attacked(report, media)
    }


def attack_of(row: AttackRow) -> str:
    """The attack's name, with its budget where that is not the usual one: ``soft-prompt x4``."""
    return attack_title(row.attack, row.times)


def attack_title(name: str, times: int) -> str:
    """The attack ``name`` with ``times`` its usual budget."""
    return name if times == 1 else f"{name} x{times}"


def motion_ratio(report: Report) -> float | None:
    """The tuned encoder's motion over the base's; None where no clip was asked for."""
    return report.motion.ratio.value if report.motion else None


def answered(counts: dict[str, Counts]) -> dict[str, Counts]:
    """The counts of at least one answer."""
    return {title: each for title, each in counts.items() if each["n"]}


def _by(row: ShownRow, rule: Rule) -> RateTriple:
    triple: RateTriple = getattr(row, rule)
    return triple


def _counts(rates: Iterable[RatePair | RateTriple]) -> Counts:
    found = list(rates)
    counts = {
        "tuned": sum(one.tuned.hits for one in found),
        "base": sum(one.base.hits for one in found),
        "n": sum(one.tuned.n for one in found),
    }
    floors = [one.floor.hits for one in found if isinstance(one, RateTriple)]
    return counts | ({"floor": sum(floors)} if floors else {})
