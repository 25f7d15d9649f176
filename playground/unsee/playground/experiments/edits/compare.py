"""Which edit holds against whom: ``python -m unsee.playground.experiments.edits.compare``.

Eight concepts are unlearned in every way and asked and attacked alike. ``edits.json`` in
``build/evaluation`` is rewritten after each; the table is printed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from rich.console import Console

from unsee.core.files import write_json
from unsee.evaluation.attacks import PromptSearch, SoftPrompt
from unsee.evaluation.evaluate import EvaluationPlan
from unsee.evaluation.report.schema import Report
from unsee.evaluation.target import target_of
from unsee.playground.experiments import counts
from unsee.playground.experiments.counts import EVERY_WORDING, Counts
from unsee.playground.experiments.edits.learned import learned_change
from unsee.playground.experiments.edits.ways import LINEAR, Subject, Way
from unsee.playground.experiments.own_base import (
    CATEGORIES,
    Experiment,
    chosen,
    concept_option,
    policy_concept,
    report_of,
    slug,
    undocumented_options,
)
from unsee.playground.training.program import exit_code_of
from unsee.playground.world.world import Concept as WorldConcept
from unsee.playground.world.world import concepts_in

RECORD = "edits.json"
SEED = 0
WAYS: Mapping[str, Way] = {**LINEAR, "a small change against attackers": learned_change}
PLAN = EvaluationPlan(
    seed=SEED,
    prompts_per_wording=1,
    prompts_per_sibling=1,
    num_others=8,
    attack_prompts=4,
    media=("video",),
    attacks=(SoftPrompt(), PromptSearch()),
)


def subjects() -> list[WorldConcept]:
    """The first concept of each category, and the second of three of them."""
    firsts = [concepts_in(category)[0] for category in CATEGORIES]
    return [*firsts, *(concepts_in(category)[1] for category in CATEGORIES[:3])]


@click.command()
@concept_option
@click.option("--way", "ways", type=click.Choice(list(WAYS)), multiple=True, default=list(WAYS))
@undocumented_options
def compare(names: tuple[str, ...], ways: tuple[str, ...], experiment: Experiment) -> None:
    """Unlearn concepts in several ways, attack each, and print what holds."""
    concepts = chosen(names, []) if names else subjects()
    run({way: WAYS[way] for way in ways}, concepts, PLAN, experiment, Console(stderr=True))


def run(
    ways: Mapping[str, Way],
    concepts: Sequence[WorldConcept],
    plan: EvaluationPlan,
    experiment: Experiment,
    console: Console,
) -> None:
    """Every concept in every way; the record is rewritten after each."""
    record = experiment.record(RECORD, experiment.build_dir)
    found: dict[str, Any] = {**experiment.of_base(), "seed": plan.seed, "ways": {}}
    for way in ways:
        found["ways"][way] = {}
        for concept in concepts:
            console.print(f"[bold]{way}[/bold], {concept.name}")
            asked = policy_concept(concept, experiment.base)
            with TemporaryDirectory() as empty:  # a delta that is found would cost no seconds
                subject = Subject(experiment.base, asked, plan.seed, Path(empty))
                started = time.monotonic()
                encoder = ways[way](subject)
                seconds = time.monotonic() - started
            name = slug(concept.name)
            report = report_of(
                experiment.judged,
                target_of("encoder", f"{name}-{slug(way)}", (asked,), encoder),
                plan,
                experiment.build_dir / "edits" / name / f"report-{slug(way)}",
                experiment.frames_dir,
            )
            found["ways"][way][concept.name] = {"seconds": round(seconds, 1), **counted(report)}
            write_json(record, found, indent=1)
    click.echo("\n".join(table(found["ways"])))


def counted(report: Report) -> dict[str, Counts]:
    """By column, for clips in which the concept lasts."""
    return {
        "asked for": counts.forgotten(report, "video", EVERY_WORDING, "lasting"),
        **counts.attacked(report, "video", "lasting"),
        "siblings": counts.kept(report, "video", "sibling"),
        "others": counts.kept(report, "video", "other"),
    }


def table(ways: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """The lines of a Markdown table: hits of the edited encoder, and of the base in brackets."""
    columns = [name for name in next(iter(next(iter(ways.values())).values())) if name != "seconds"]
    lines = [f"| edit | {' | '.join(columns)} | n | seconds |", "|---" * (len(columns) + 3) + "|"]
    for way, concepts in ways.items():
        found = list(concepts.values())
        cells = [_cell([one[column] for one in found]) for column in columns]
        seconds = sum(one["seconds"] for one in found) / len(found)
        lines.append(f"| {way} | {' | '.join(cells)} | {len(found)} | {seconds:.0f} |")
    return lines


def _cell(each: Sequence[Counts]) -> str:
    tuned, base, n = (sum(one[side] for one in each) for side in ("tuned", "base", "n"))
    return f"{tuned} ({base}) of {n}"


if __name__ == "__main__":
    sys.exit(exit_code_of(compare))
