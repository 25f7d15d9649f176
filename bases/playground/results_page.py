"""``docs/results.md`` and its plots, from the reports of every concept.

Knows reports and Markdown; does not know how anything was measured.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from playground.rate_search import RateTrial
from playground.world import CATEGORIES, CONCEPTS
from unsee.client.policy import Thresholds
from unsee.evaluation.report import Group, Media, Rate, RatePair, Report, Wording
from unsee.evaluation.report import pooled as report_counts
from unsee.evaluation.statistics import rate_of_counts
from unsee.evaluation.verdict import verdict_of
from unsee.evaluation.write_file import write_file
from unsee.training.settings import PaperMode

PAGE = "results.md"
RECORD = "results.json"
RATES_PLOT = "results_rates.svg"
CONCEPTS_PLOT = "results_concepts.svg"
REWRITTEN: tuple[Wording, ...] = ("long", "synonym")
ORDINARY: tuple[Wording, ...] = ("alone", "context")
FORGOTTEN, KEPT, INK = "#b3261e", "#16794a", "#1c1e22"


@dataclass(frozen=True)
class Results:
    """What the page is made from: by concept the report and the seconds of unlearning."""

    reports: Mapping[str, tuple[Report, float]]
    trials: Sequence[RateTrial]
    settings: PaperMode
    machine: Mapping[str, str]


@dataclass(frozen=True)
class Column:
    """A figure of one report; pooling adds up the hits of several."""

    title: str
    of: Callable[[Report], list[RatePair]]


def erased(media: Media, wordings: Iterable[Wording]) -> Callable[[Report], list[RatePair]]:
    wanted = set(wordings)
    return lambda report: [
        row.any_frame for row in report.erased if row.media == media and row.wording in wanted
    ]


def kept(media: Media, group: Group) -> Callable[[Report], list[RatePair]]:
    return lambda report: [
        row.recognised for row in report.kept if row.media == media and row.group == group
    ]


def attacked(attack: str, media: Media) -> Callable[[Report], list[RatePair]]:
    return lambda report: [
        row.recognised for row in report.attacks if row.attack == attack and row.media == media
    ]


def columns(reports: Iterable[Report]) -> list[Column]:
    """The table's columns; attacks are those that the reports contain."""
    attacks = list(dict.fromkeys(row.attack for report in reports for row in report.attacks))
    found = [
        Column("images", erased("image", ORDINARY)),
        Column("clips", erased("video", ORDINARY)),
        Column("clips, rewritten", erased("video", REWRITTEN)),
        Column("siblings, images", kept("image", "sibling")),
        Column("siblings, clips", kept("video", "sibling")),
        Column("others, images", kept("image", "other")),
        Column("others, clips", kept("video", "other")),
    ]
    for attack in attacks:
        found.append(Column(f"{attack}, images", attacked(attack, "image")))
        found.append(Column(f"{attack}, clips", attacked(attack, "video")))
    return found


def pooled(pairs: Sequence[RatePair]) -> RatePair:
    """All of the pairs as one."""
    return RatePair(
        tuned=summed([pair.tuned for pair in pairs]), base=summed([pair.base for pair in pairs])
    )


def summed(rates: Sequence[Rate]) -> Rate:
    """All of the rates as one, its interval taken anew."""
    return rate_of_counts(*report_counts(list(rates)))


def cell(pairs: Sequence[RatePair]) -> str:
    """``base → tuned`` in hits of n."""
    whole = pooled(pairs)
    if not whole.tuned.n:
        return "–"
    return f"{whole.base.hits} → **{whole.tuned.hits}** of {whole.tuned.n}"


def percent(rate: Rate) -> str:
    if not rate.n:
        return "–"
    return f"{100 * rate.share:.1f} % [{100 * rate.low:.1f}, {100 * rate.high:.1f}]"


def of_category(results: Results, category: str) -> list[Report]:
    names = [concept.name for concept in CONCEPTS if concept.category == category]
    return [results.reports[name][0] for name in names if name in results.reports]


def write(results: Results, folder: Path) -> None:
    """Writes page, record and plots into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / PAGE, page(results).encode())
    record = json.dumps(as_record(results), indent=1, allow_nan=False) + "\n"
    write_file(folder / RECORD, record.encode())
    write_file(folder / RATES_PLOT, rates_plot(results.trials))
    write_file(folder / CONCEPTS_PLOT, concepts_plot(results))


def as_record(results: Results) -> dict[str, Any]:
    """The page's figures for programs."""
    found = columns(report for report, _ in results.reports.values())
    rows = {
        name: {
            "seconds": round(seconds, 2),
            "motion_ratio": report.motion.ratio.value if report.motion else None,
            **{c.title: pooled(c.of(report)).model_dump() for c in found},
        }
        for name, (report, seconds) in results.reports.items()
    }
    return {
        "settings": asdict(results.settings),
        "machine": dict(results.machine),
        "rates": [asdict(trial) | {"score": trial.score} for trial in results.trials],
        "concepts": rows,
    }


def page(results: Results) -> str:
    """The Markdown."""
    reports = [report for report, _ in results.reports.values()]
    some = reports[0]
    asked = some.settings
    lines = [
        "# Paper mode on every concept of the playground",
        "",
        "Written by `make evaluation`; do not edit. One concept at a time is unlearned in paper "
        "mode and evaluated: the same prompts and seeds, with the base's text encoder and with the "
        "tuned one. Recognised means: by the judge, in any frame (what is to be forgotten) or by "
        "the mean over frames (what is to be kept). "
        "[evaluation.md](evaluation.md) defines every figure.",
        "",
        f"{len(reports)} of {sum(c.category != 'background' for c in CONCEPTS)} concepts, "
        f"seed {asked.seed}; "
        f"{results.settings.shots} generated images, learning rate "
        f"{results.settings.learning_rate:g}, {results.settings.epochs} epochs in batches of "
        f"{results.settings.batch_size}; clips of {asked.num_frames} frames, "
        f"{asked.num_inference_steps} steps, guidance {asked.guidance_scale:g}; "
        "products of the denoisers in bfloat16. "
        + ", ".join(f"{key} {value}" for key, value in results.machine.items())
        + ".",
        "",
        *overall(results, reports),
        "",
        f"![Every concept]({CONCEPTS_PLOT})",
        "",
        *by_concept(results),
        "",
        *the_search(results),
        "",
        *the_attacks(reports),
        "",
    ]
    return "\n".join(lines)


def overall(results: Results, reports: Sequence[Report]) -> list[str]:
    """One row per figure, pooled over concepts, with intervals."""
    lines = [
        "## All concepts together",
        "",
        "| recognised | base | after unlearning | n |",
        "|---|---|---|---|",
    ]
    for column in columns(reports):
        whole = pooled([pair for report in reports for pair in column.of(report)])
        if whole.tuned.n:
            lines.append(
                f"| {column.title} | {percent(whole.base)} | {percent(whole.tuned)} "
                f"| {whole.tuned.n} |"
            )
    ratios = [report.motion.ratio.value for report in reports if report.motion]
    seconds = [seconds for _, seconds in results.reports.values()]
    lines += [
        "",
        "In brackets: Wilson's 95 % intervals. Prompts about what is kept repeat from concept to "
        "concept, so their n counts answers of different encoders, not different prompts.",
    ]
    if ratios:
        lines.append(
            f"Motion of kept clips against the base's: {sum(ratios) / len(ratios):.2f} on average, "
            f"{min(ratios):.2f} to {max(ratios):.2f}."
        )
    lines.append(the_gate(reports))
    lines.append(
        f"Unlearning took {sum(seconds) / len(seconds):.1f} s a concept, images included "
        f"({min(seconds):.1f} to {max(seconds):.1f} s), by the deltas' cards."
    )
    return lines


def the_gate(reports: Sequence[Report]) -> str:
    """How many encoders `unsee publish` would let through by its default thresholds."""
    verdicts = [verdict_of(report, Thresholds()) for report in reports]
    missed = Counter(c.name for verdict in verdicts for c in verdict.checks if not c.passed)
    passed = sum(verdict.passed for verdict in verdicts)
    counts = ", ".join(f"`{name}` {count}" for name, count in missed.most_common())
    return (
        f"{passed} of {len(reports)} encoders pass the gate's default thresholds; missed: "
        f"{counts or 'none'}."
    )


def by_concept(results: Results) -> list[str]:
    """One row per concept."""
    found = columns(report for report, _ in results.reports.values())
    titles = ["concept", *(column.title for column in found), "motion", "seconds"]
    lines = [
        "## By concept",
        "",
        "`base → after` in recognised of asked; a concept to be forgotten should reach 0, what is "
        "kept should stay.",
        "",
        "| " + " | ".join(titles) + " |",
        "|---" * len(titles) + "|",
    ]
    for concept in CONCEPTS:
        if concept.name not in results.reports:
            continue
        report, seconds = results.reports[concept.name]
        motion = f"{report.motion.ratio.value:.2f}" if report.motion else "–"
        cells = [cell(column.of(report)) for column in found]
        lines.append("| " + " | ".join([concept.name, *cells, motion, f"{seconds:.1f}"]) + " |")
    return lines


def the_search(results: Results) -> list[str]:
    """How the learning rate was chosen."""
    lines = [
        "## The learning rate",
        "",
        "Chosen on the five backgrounds, which are in no table above, on images: the harmonic mean "
        "of what was forgotten and what was kept (siblings and others weigh the same).",
        "",
        "| learning rate | still seen | siblings kept | others kept | score |",
        "|---|---|---|---|---|",
    ]
    for trial in results.trials:
        chosen = trial.learning_rate == results.settings.learning_rate
        rate = f"**{trial.learning_rate:g}**" if chosen else f"{trial.learning_rate:g}"
        shares = (trial.still_seen, trial.siblings_kept, trial.others_kept)
        cells = " | ".join(f"{100 * share:.0f} %" for share in shares)
        lines.append(f"| {rate} | {cells} | {trial.score:.3f} |")
    return [*lines, "", f"![The search]({RATES_PLOT})"]


def the_attacks(reports: Sequence[Report]) -> list[str]:
    """Budgets, sources and times of the attacks."""
    rows = {row.attack: row for report in reports for row in report.attacks}
    if not rows:
        return []
    attacked = sum(bool(report.attacks) for report in reports)
    lines = [
        "## Attacks",
        "",
        f"On {attacked} of the {len(reports)} concepts, each on the tuned and on the base's "
        "encoder; seconds are those of one encoder.",
        "",
        "| attack | budget | after | seconds |",
        "|---|---|---|---|",
    ]
    for name, row in rows.items():
        times = [r.seconds for report in reports for r in report.attacks if r.attack == name]
        lines.append(f"| {name} | {row.budget} | {row.source} | {sum(times) / len(times):.1f} |")
    return lines


def svg(figure: Figure) -> bytes:
    """The figure as a file that does not depend on when it was drawn."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "unsee", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def rates_plot(trials: Sequence[RateTrial]) -> bytes:
    """Forgetting and keeping over the learning rate."""
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.add_subplot()
    rates = [trial.learning_rate for trial in trials]
    curves: tuple[tuple[Callable[[RateTrial], float], str, str], ...] = (
        (lambda trial: trial.still_seen, "still seen", FORGOTTEN),
        (lambda trial: trial.siblings_kept, "siblings kept", KEPT),
        (lambda trial: trial.others_kept, "others kept", INK),
    )
    for value, label, colour in curves:
        axes.plot(rates, [100 * value(t) for t in trials], "o-", label=label, color=colour)
    axes.set(xscale="log", xlabel="learning rate", ylabel="% of images", ylim=(-3, 103))
    axes.legend(frameon=False)
    return svg(figure)


def concepts_plot(results: Results) -> bytes:
    """Per concept: still seen in clips, siblings kept, others kept."""
    names = [c.name for category in CATEGORIES for c in CONCEPTS if c.category == category]
    names = [name for name in names if name in results.reports]
    figure = Figure(figsize=(8, 0.28 * len(names) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    wordings = (*ORDINARY, *REWRITTEN)
    for of, label, colour, marker in (
        (erased("video", wordings), "concept, clips", FORGOTTEN, "o"),
        (kept("video", "sibling"), "siblings, clips", KEPT, "s"),
        (kept("video", "other"), "others, clips", INK, "|"),
    ):
        rates = [pooled(of(results.reports[name][0])).tuned for name in names]
        shown = [(i, r) for i, r in enumerate(rates) if r.n]
        axes.plot(
            [100 * r.share for _, r in shown],
            [i for i, _ in shown],
            marker,
            label=label,
            color=colour,
            linestyle="none",
            markersize=6,
        )
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel="recognised after unlearning, %", xlim=(-3, 103))
    axes.grid(axis="y", alpha=0.25)
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return svg(figure)
