"""What separates a concept from its floor, and which rule of recognition does it best.

The base is asked for some concepts, for the same prompts with a neutral word in the name's place
(the floor), and for the concepts with its edited encoder. In each clip the frames that show the
concept are counted, so that every rule "at least k of F frames" can be read from one record.

``python -m unsee.playground.experiments.floors`` writes ``docs/measured/floors.json`` and prints
the table of rules; ``make pages`` renders the page. Deltas, frames and reports lie in
``build/evaluation`` and are found again.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console

from unsee.core.files import write_json
from unsee.evaluation.evaluate import EvaluationPlan
from unsee.evaluation.report.schema import ErasedRow, Report
from unsee.playground.experiments.own_base import (
    Experiment,
    category_option,
    chosen,
    concept_option,
    experiment_options,
    found_before,
    own_report,
    usual_delta,
)
from unsee.playground.experiments.recognition_rules import SIDES, Clips, in_words, rule_lines
from unsee.playground.training.program import exit_code_of
from unsee.playground.world.world import Concept as WorldConcept

RECORD = "floors.json"


@click.command()
@concept_option
@category_option
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--prompts-per-wording", type=click.IntRange(min=1), default=8, show_default=True)
@experiment_options
def floors(
    names: tuple[str, ...],
    categories: tuple[str, ...],
    seed: int,
    prompts_per_wording: int,
    experiment: Experiment,
) -> None:
    """Measure the floor of each concept and compare the rules of recognition."""
    plan = EvaluationPlan(
        seed=seed,
        prompts_per_wording=prompts_per_wording,
        prompts_per_sibling=0,
        num_others=0,
        attack_prompts=1,
        media=("video",),
        attacks=(),
    )
    run(chosen(names, categories), plan, experiment, Console(stderr=True))


def run(
    concepts: Sequence[WorldConcept],
    plan: EvaluationPlan,
    experiment: Experiment,
    console: Console,
) -> None:
    """Measure every concept; the record is added to after each one of them."""
    record = experiment.record(RECORD)
    head = experiment.of_base() | {"plan": _plan(plan)}
    found: dict[str, Any] = found_before(record, head).get("concepts", {})
    for concept in concepts:
        started = time.monotonic()
        console.print(f"[bold]{concept.name}[/bold]")
        delta = usual_delta(concept, plan.seed, experiment).folder
        report = own_report(
            experiment.judged, delta, plan, delta.with_name("floor"), experiment.frames_dir
        )
        found[concept.name] = recorded(concept, report)
        write_json(record, head | {"clip": _clip(report), "concepts": found}, indent=1)
        console.print(f"  {time.monotonic() - started:.0f} s", style="dim")
    for line in rule_lines(list(found.values())):
        console.print(in_words(line))
    console.print(f"{record} is written; `make pages` renders its page")


def recorded(concept: WorldConcept, report: Report) -> dict[str, Any]:
    """One concept: per wording the frames of each clip, and the shares of the mean frame.

    An action has no frames to count: ``clips`` is empty, and ``whole`` says all.
    """
    rows = [row for row in report.erased if row.media == "video"]
    return {
        "category": concept.category,
        "num_frames": report.settings.num_frames,
        "clips": {row.wording: _clips(row) for row in rows if row.frames_shown is not None},
        "whole": {
            row.wording: {side: getattr(row.mean_frame, side).hits for side in SIDES}
            | {"n": row.mean_frame.tuned.n}
            for row in rows
        },
    }


def _clips(row: ErasedRow) -> Clips:
    frames = row.frames_shown
    return {} if frames is None else {side: list(getattr(frames, side)) for side in SIDES}


def _plan(plan: EvaluationPlan) -> dict[str, int]:
    kept = asdict(plan)
    return {name: kept[name] for name in ("seed", "prompts_per_wording")}


def _clip(report: Report) -> dict[str, float]:
    settings = report.settings
    return {
        "num_frames": settings.num_frames,
        "num_inference_steps": settings.num_inference_steps,
        "guidance_scale": settings.guidance_scale,
    }


if __name__ == "__main__":
    sys.exit(exit_code_of(floors))
