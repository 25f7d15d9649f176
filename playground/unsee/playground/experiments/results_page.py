"""``docs/measured/results.md`` and its plots, from what was found about every concept.

Knows findings and Markdown; does not know how anything was measured.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unsee.core.files import write_file
from unsee.core.policy import Thresholds
from unsee.core.unlearning_settings import PaperMode, Settings
from unsee.evaluation.report.schema import Rate, RatePair, Report
from unsee.evaluation.report.verdict import verdict_of
from unsee.playground.experiments import figures
from unsee.playground.experiments.figures import EVERY_WORDING, NOTHING, Pick
from unsee.playground.experiments.findings import Finding
from unsee.playground.experiments.own_unlearning import MODES, UNLEARNABLE, Mode
from unsee.playground.experiments.rate_search import RateTrial
from unsee.playground.experiments.results_plots import (
    FORGOTTEN,
    INK,
    KEPT,
    Marks,
    concepts_plot,
    rates_plot,
)
from unsee.playground.experiments.results_table import columns, lines_of, reports_of, worst

PAGE = "results.md"
RECORD = "results.json"
RATES_PLOT = "results_rates.svg"
CONCEPTS_PLOT = "results_concepts.svg"
TITLES: Mapping[Mode, str] = {"paper": "paper mode", "anchored": "default mode"}


@dataclass(frozen=True)
class Results:
    """What the page is made from; ``trials`` are those of paper mode's rate, empty without it."""

    findings: Sequence[Finding]
    trials: Sequence[RateTrial]
    settings: Mapping[Mode, Settings]
    machine: Mapping[str, str]

    @property
    def modes(self) -> list[Mode]:
        """The modes that anything was found of."""
        return [mode for mode in MODES if self.of_mode(mode)]

    @property
    def shown(self) -> Mode:
        """The mode that the details are shown of: the default one, if it is there."""
        return self.modes[-1]

    def of_mode(self, mode: Mode) -> list[Finding]:
        """The findings of ``mode``."""
        return [finding for finding in self.findings if finding.mode == mode]

    def by_concept(self, mode: Mode) -> dict[str, list[Finding]]:
        """The findings of ``mode``, all seeds of a concept together, in the world's order."""
        found = self.of_mode(mode)
        groups = {c.name: [f for f in found if f.concept == c.name] for c in UNLEARNABLE}
        return {name: group for name, group in groups.items() if group}


def write(results: Results, folder: Path) -> None:
    """Writes page, record and plots into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / PAGE, page(results).encode())
    record = json.dumps(as_record(results), indent=1, allow_nan=False) + "\n"
    write_file(folder / RECORD, record.encode())
    if results.trials:
        write_file(folder / RATES_PLOT, rates_plot(results.trials))
    write_file(folder / CONCEPTS_PLOT, _concepts_plot(results))


def page(results: Results) -> str:
    """The Markdown. There must be a finding."""
    lines = [
        "# Every concept of the playground",
        "",
        *_what_this_is(results),
        "",
        "## All concepts together",
        "",
        *_overall(results),
        "",
        f"![Every concept]({CONCEPTS_PLOT})",
        "",
        *_by_concept(results),
        "",
        *_the_search(results),
        *_the_attacks(reports_of(results.of_mode(results.shown))),
        "",
    ]
    return "\n".join(lines)


def as_record(results: Results) -> dict[str, Any]:
    """The page's figures for programs: all modes and seeds on their own."""
    picks = columns(reports_of(results.findings))
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for finding in results.findings:
        seeds = found.setdefault(finding.mode, {})
        seeds.setdefault(f"seed-{finding.seed}", {})[finding.concept] = _recorded(finding, picks)
    return {
        "settings": {mode: asdict(results.settings[mode]) for mode in results.modes},
        "machine": dict(results.machine),
        "rates": [asdict(trial) | {"score": trial.score} for trial in results.trials],
        "concepts": found,
    }


def _recorded(finding: Finding, picks: Mapping[str, Pick]) -> dict[str, Any]:
    motion = finding.report.motion
    pairs = {title: figures.pooled([finding.report], pick) for title, pick in picks.items()}
    return {
        "seconds": round(finding.seconds, 2),
        "values": finding.values,
        "bytes": finding.num_bytes,
        "anchor": finding.anchor,
        "motion_ratio": motion.ratio.value if motion else None,
        **{title: _counts(pair) for title, pair in pairs.items() if pair.tuned.n},
    }


def _counts(pair: RatePair) -> dict[str, int]:
    return {"tuned": pair.tuned.hits, "base": pair.base.hits, "n": pair.tuned.n}


def _what_this_is(results: Results) -> list[str]:
    asked = results.of_mode(results.shown)[0].report.settings
    return [
        "Written by `make evaluation`; do not edit. One concept at a time is unlearned and "
        "evaluated: the same prompts and seeds, with the base's text encoder and with the tuned "
        "one. Recognised means: by the judge, in any frame (what is to be forgotten) or by the "
        "mean over frames (what is to be kept). "
        "[evaluation.md](../reference/evaluation.md) defines every figure.",
        "",
        *(f"- {_how(results, mode)}" for mode in results.modes),
        "",
        f"Clips of {asked.num_frames} frames, {asked.num_inference_steps} steps, guidance "
        f"{asked.guidance_scale:g}; products of the denoisers in bfloat16. "
        + ", ".join(f"{key} {value}" for key, value in results.machine.items())
        + ".",
    ]


def _how(results: Results, mode: Mode) -> str:
    found = results.of_mode(mode)
    seeds = sorted({finding.seed for finding in found})
    several = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    names = results.by_concept(mode)
    settings = results.settings[mode]
    return (
        f"**{TITLES[mode]}**: {len(names)} of {len(UNLEARNABLE)} concepts, {several}, "
        f"{settings.shots} generated images; {_knobs(settings)}."
    )


def _knobs(settings: Settings) -> str:
    """Every setting but the number of images, by its name."""
    values = {name: value for name, value in asdict(settings).items() if name != "shots"}
    return ", ".join(f"`{name}` {value}" for name, value in values.items() if value is not None)


def _overall(results: Results) -> list[str]:
    by_mode = {mode: results.of_mode(mode) for mode in results.modes}
    reference = by_mode[results.shown]
    groups = results.by_concept(results.shown)
    titles = ["", "base", *(TITLES[mode] for mode in by_mode), f"worst, {TITLES[results.shown]}"]
    rows = []
    for line in lines_of(reports_of(results.findings)):
        cells = [line.tuned(found) for found in by_mode.values()]
        if any(cell != NOTHING for cell in cells):
            rows.append([line.title, line.base(reference), *cells, worst(line, groups)])
    return [
        *figures.table(titles, rows),
        "",
        "In brackets: Wilson's 95 % intervals; what is kept, and its interval, is in units of the "
        "base's share for the same prompts. Clips are asked with the concept's name alone and in "
        "context where nothing else is said. Motion, seconds and sizes: the mean, and the range "
        f"(motion: over concepts). The base's figures stand beside the {TITLES[results.shown]}'s. "
        "Prompts about what is kept repeat from concept to concept, so their n counts answers of "
        "different encoders, not different prompts.",
        "",
        *(_the_gate(mode, reports_of(found)) for mode, found in by_mode.items()),
    ]


def _the_gate(mode: Mode, reports: Sequence[Report]) -> str:
    """How many encoders `unsee publish` would let through by its default thresholds."""
    verdicts = [verdict_of(report, Thresholds()) for report in reports]
    missed = Counter(c.name for verdict in verdicts for c in verdict.checks if not c.passed)
    passed = sum(verdict.passed for verdict in verdicts)
    counts = ", ".join(f"`{name}` {count}" for name, count in missed.most_common())
    return (
        f"{passed} of {len(reports)} encoders of the {TITLES[mode]} pass the gate's default "
        f"thresholds; missed: {counts or 'none'}."
    )


def _by_concept(results: Results) -> list[str]:
    groups = results.by_concept(results.shown)
    picks = columns(reports_of(results.of_mode(results.shown)))
    return [
        f"## By concept, {TITLES[results.shown]}",
        "",
        "`base → after` in recognised of asked, all seeds together; a concept to be forgotten "
        "should reach 0, what is kept should stay.",
        "",
        *figures.table(
            ["concept", "shown instead", *picks, "motion", "seconds"],
            [_concept_row(name, found, picks) for name, found in groups.items()],
        ),
    ]


def _concept_row(name: str, found: Sequence[Finding], picks: Mapping[str, Pick]) -> list[str]:
    reports = reports_of(found)
    pairs = [figures.pooled(reports, pick) for pick in picks.values()]
    anchors = dict.fromkeys(finding.anchor or NOTHING for finding in found)
    return [
        name,
        ", ".join(anchors),
        *(figures.before_and_after(pair) for pair in pairs),
        figures.spread([figures.motion_ratio(reports)], digits=2),
        f"{figures.mean([finding.seconds for finding in found]):.1f}",
    ]


def _the_search(results: Results) -> list[str]:
    """How paper mode's learning rate was chosen; nothing without paper mode."""
    settings = results.settings.get("paper")
    if not results.trials or not isinstance(settings, PaperMode):
        return []
    rows = []
    for trial in results.trials:
        chosen = trial.learning_rate == settings.learning_rate
        rate = f"**{trial.learning_rate:g}**" if chosen else f"{trial.learning_rate:g}"
        shares = (trial.still_seen, trial.siblings_kept, trial.others_kept)
        rows.append([rate, *(f"{100 * share:.0f} %" for share in shares), f"{trial.score:.3f}"])
    return [
        "## Paper mode's learning rate",
        "",
        "Chosen on the five backgrounds, which are in no table above, on images: the harmonic mean "
        "of what was forgotten and what was kept (siblings and others weigh the same).",
        "",
        *figures.table(
            ["learning rate", "still seen", "siblings kept", "others kept", "score"], rows
        ),
        "",
        f"![The search]({RATES_PLOT})",
        "",
    ]


def _the_attacks(reports: Sequence[Report]) -> list[str]:
    """Budgets, sources and times of the attacks."""
    rows = {row.attack: row for report in reports for row in report.attacks}
    if not rows:
        return []
    attacked = sum(bool(report.attacks) for report in reports)
    times = {
        name: figures.mean(
            [r.seconds for each in reports for r in each.attacks if r.attack == name]
        )
        for name in rows
    }
    return [
        "## Attacks",
        "",
        f"On {attacked} of the {len(reports)} encoders, each on the tuned and on the base's "
        "encoder; seconds are those of one encoder.",
        "",
        *figures.table(
            ["attack", "budget", "after", "seconds"],
            [[name, row.budget, row.source, f"{times[name]:.1f}"] for name, row in rows.items()],
        ),
    ]


def _concepts_plot(results: Results) -> bytes:
    """Per concept: still seen in clips, siblings kept, others kept."""
    groups = results.by_concept(results.shown)
    reports = [reports_of(found) for found in groups.values()]

    def rates(pick: Pick) -> list[Rate]:
        return [figures.pooled(each, pick).tuned for each in reports]

    marks = [
        Marks("concept, clips", FORGOTTEN, "o", rates(figures.erased("video", EVERY_WORDING))),
        Marks("siblings, clips", KEPT, "s", rates(figures.kept("video", "sibling"))),
        Marks("others, clips", INK, "|", rates(figures.kept("video", "other"))),
    ]
    return concepts_plot(list(groups), marks)
