"""``docs/measured/composition.md``, its record and its heat map, from reports on composed policies.

Knows reports, the matrix of interference and Markdown; does not know how an encoder is composed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unsee.core.files import write_file
from unsee.evaluation.report.schema import Group, Media, RatePair, Report
from unsee.playground.experiments import figures
from unsee.playground.experiments.figures import EVERY_WORDING
from unsee.playground.experiments.interference import Interference, interference_plot

PAGE = "composition.md"
RECORD = "composition.json"
PLOT = "interference.svg"
WORST_PAIRS = 10
TITLES: dict[Media, str] = {"image": "Images", "video": "Clips"}
WHAT_WAYS_ARE = {
    "refit": "the edits fitted together to their stored evidence; asked in images only",
    "product": "one edit after the other",
    "sum": "every edit on the unedited state",
    "joint": "no composition: the concepts' moments are measured anew and solved at once",
}


@dataclass(frozen=True)
class Composed:
    """The report on one policy, composed in one way in so many seconds."""

    policy: str
    concepts: tuple[str, ...]
    way: str
    report: Report
    seconds: float


@dataclass(frozen=True)
class Composition:
    """What the page is made from."""

    policies: Sequence[Composed]
    interference: Interference


def write(composition: Composition, folder: Path) -> None:
    """Writes page, record and heat map into ``folder``."""
    write_file(folder / PAGE, page(composition).encode())
    record = json.dumps(as_record(composition), indent=1, allow_nan=False) + "\n"
    write_file(folder / RECORD, record.encode())
    write_file(folder / PLOT, interference_plot(composition.interference))


def page(composition: Composition) -> str:
    """The Markdown. There must be a policy."""
    some = composition.policies[0].report.settings
    lines = [
        "# Policies of several concepts",
        "",
        "Written by `make evaluation`; do not edit. The deltas are those of the default mode, made "
        f"one concept at a time with seed {some.seed}; the same prompts and seeds are asked with "
        "the base's text encoder and with the composed one. "
        "[evaluation.md](../reference/evaluation.md) defines every figure.",
        "",
        *_ways(composition),
        "",
        "In brackets: Wilson's 95 % intervals. What is kept, and its interval, is in units of the "
        "base's share for the same prompts; a policy's own concepts are no siblings.",
        "",
        *_by_media(composition),
        *_matrix(composition.interference),
        "",
    ]
    return "\n".join(lines)


def as_record(composition: Composition) -> dict[str, Any]:
    """The page's figures for programs."""
    matrix = composition.interference
    return {
        "policies": [_recorded(one) for one in composition.policies],
        "interference": {
            "concepts": list(matrix.names),
            "categories": list(matrix.categories),
            "shares": [[float(f"{value:.4g}") for value in row] for row in matrix.shares],
        },
    }


def _recorded(one: Composed) -> dict[str, Any]:
    ratio = figures.motion_ratio([one.report])
    pairs = {
        "erased": _erased(one),
        "siblings": _kept(one, "sibling"),
        "others": _kept(one, "other"),
    }
    return {
        "policy": one.policy,
        "concepts": list(one.concepts),
        "way": one.way,
        "media": _media(one),
        "seconds_to_compose": round(one.seconds, 3),
        "motion_ratio": ratio if math.isfinite(ratio) else None,
        **{name: pair.model_dump() for name, pair in pairs.items()},
    }


def _ways(composition: Composition) -> list[str]:
    ways = dict.fromkeys(one.way for one in composition.policies)
    return [f"- `{way}`: {WHAT_WAYS_ARE[way]}" for way in ways]


def _by_media(composition: Composition) -> list[str]:
    lines: list[str] = []
    for media in dict.fromkeys(_media(one) for one in composition.policies):
        of_it = [one for one in composition.policies if _media(one) == media]
        lines += [f"## {TITLES[media]}", "", *_policies(of_it), ""]
    return lines


def _policies(policies: Sequence[Composed]) -> list[str]:
    titles = [
        "policy",
        "way",
        "base sees",
        "still seen, any frame",
        "siblings kept",
        "others kept",
        "motion ratio",
        "seconds to compose",
    ]
    members = {one.policy: ", ".join(one.concepts) for one in policies}
    return [
        *figures.table(titles, [_policy_row(one) for one in policies]),
        "",
        *(f"- {policy}: {names}" for policy, names in members.items()),
    ]


def _policy_row(one: Composed) -> list[str]:
    erased = _erased(one)
    return [
        one.policy,
        f"`{one.way}`",
        figures.percent(erased.base),
        figures.percent(erased.tuned),
        figures.relative_percent(_kept(one, "sibling")),
        figures.relative_percent(_kept(one, "other")),
        figures.spread([figures.motion_ratio([one.report])], digits=2),
        f"{one.seconds:.2f}",
    ]


def _matrix(matrix: Interference) -> list[str]:
    own = [float(matrix.shares[i, i]) for i in range(len(matrix.names))]
    return [
        "## Interference",
        "",
        "How much the edit of one concept moves the states that name another, in units of the "
        "changes that forgetting the other needs: E|D x|² / E|d|², from the deltas and the text "
        "encoder, without pictures.",
        "",
        f"![Interference]({PLOT})",
        "",
        f"On its own concept an edit moves {figures.spread(own, digits=2)}. The median between "
        f"siblings is {matrix.median(siblings=True):.4f}, between categories "
        f"{matrix.median(siblings=False):.4f}. The worst pairs:",
        "",
        *(
            f"- forgetting {edited} moves what names {moved} by {100 * share:.1f} % of what "
            f"forgetting {moved} needs"
            for edited, moved, share in matrix.pairs()[:WORST_PAIRS]
        ),
    ]


def _media(one: Composed) -> Media:
    return one.report.erased[0].media


def _erased(one: Composed) -> RatePair:
    return figures.pooled([one.report], figures.erased(_media(one), EVERY_WORDING))


def _kept(one: Composed, group: Group) -> RatePair:
    return figures.pooled([one.report], figures.kept(_media(one), group))
