"""``docs/measured/ablation.md`` and its record, from reports by variant and concept.

Knows reports and Markdown; does not know what a variant changes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unsee.core.files import write_file
from unsee.core.unlearning_settings import AnchoredMode
from unsee.evaluation.report.schema import Report
from unsee.playground.experiments import figures
from unsee.playground.experiments.figures import EVERY_WORDING, Pick

PAGE = "ablation.md"
RECORD = "ablation.json"


@dataclass(frozen=True)
class Trial:
    """One concept unlearned with one variant's settings; ``erased`` and ``kept`` are the learning's
    own estimates, ``seconds`` those of unlearning, images included."""

    variant: str
    concept: str
    report: Report
    seconds: float
    erased: float | None
    kept: float | None


def write(trials: Sequence[Trial], settings: Mapping[str, AnchoredMode], folder: Path) -> None:
    """Writes page and record into ``folder``."""
    write_file(folder / PAGE, page(trials).encode())
    record = json.dumps(as_record(trials, settings), indent=1, allow_nan=False) + "\n"
    write_file(folder / RECORD, record.encode())


def page(trials: Sequence[Trial]) -> str:
    """The Markdown. There must be a trial."""
    concepts = dict.fromkeys(trial.concept for trial in trials)
    seed = trials[0].report.settings.seed
    lines = [
        "# What each part of the default mode is worth",
        "",
        "Written by `python -m unsee.playground.experiments.ablation`; do not edit. "
        "One setting is changed at a "
        f"time, on {', '.join(concepts)}, seed {seed}; the others are the default's. "
        "[evaluation.md](../reference/evaluation.md) defines every figure.",
        "",
        *_table(trials),
        "",
        "Seen: in any frame, all wordings together, pooled over the concepts; in brackets Wilson's "
        "95 % intervals. What is kept is in units of the base's share for the same prompts. The "
        "estimates are the learning's own: how far the name and the latest attackers are from the "
        "concept, and the share of the kept states' variance that stays as it was.",
        "",
    ]
    return "\n".join(lines)


def as_record(trials: Sequence[Trial], settings: Mapping[str, AnchoredMode]) -> dict[str, Any]:
    """The page's figures for programs, by variant and concept."""
    seen = _seen([trial.report for trial in trials])
    found: dict[str, Any] = {
        title: {"settings": asdict(setting), "concepts": {}} for title, setting in settings.items()
    }
    for trial in trials:
        found[trial.variant]["concepts"][trial.concept] = _recorded(trial, seen)
    return {title: one for title, one in found.items() if one["concepts"]}


def _recorded(trial: Trial, seen: Mapping[str, Pick]) -> dict[str, Any]:
    ratio = figures.motion_ratio([trial.report])
    pairs = {
        title: figures.pooled([trial.report], pick) for title, pick in {**seen, **_KEPT}.items()
    }
    return {
        "seconds": round(trial.seconds, 2),
        "estimated_erased": trial.erased,
        "estimated_kept": trial.kept,
        "motion_ratio": ratio if math.isfinite(ratio) else None,
        **{title: pair.model_dump() for title, pair in pairs.items() if pair.tuned.n},
    }


_KEPT: Mapping[str, Pick] = {
    "siblings kept, clips": figures.kept("video", "sibling"),
    "others kept, clips": figures.kept("video", "other"),
}


def _seen(reports: Sequence[Report]) -> dict[str, Pick]:
    return {
        "seen, images": figures.erased("image", EVERY_WORDING),
        "seen, clips": figures.erased("video", EVERY_WORDING),
        **{
            f"{attack}, clips": figures.attacked(attack, "video")
            for attack in figures.attack_names(reports)
        },
    }


def _table(trials: Sequence[Trial]) -> list[str]:
    seen = _seen([trial.report for trial in trials])
    titles = [
        "changed",
        *seen,
        *_KEPT,
        "motion ratio",
        "estimate: erased",
        "estimate: kept",
        "seconds",
    ]
    names = dict.fromkeys(trial.variant for trial in trials)
    groups = [[trial for trial in trials if trial.variant == name] for name in names]
    return figures.table(titles, [_row(group, seen) for group in groups])


def _row(group: Sequence[Trial], seen: Mapping[str, Pick]) -> list[str]:
    reports = [trial.report for trial in group]
    return [
        group[0].variant,
        *(figures.percent(figures.pooled(reports, pick).tuned) for pick in seen.values()),
        *(figures.relative_percent(figures.pooled(reports, pick)) for pick in _KEPT.values()),
        figures.spread([figures.motion_ratio([report]) for report in reports], digits=2),
        figures.spread([t.erased for t in group if t.erased is not None], digits=2),
        figures.spread([t.kept for t in group if t.kept is not None], digits=3),
        figures.spread([trial.seconds for trial in group], digits=1),
    ]
