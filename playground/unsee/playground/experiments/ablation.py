"""What each part of the default mode is worth: one setting changed at a time.

Writes ``docs/measured/ablation.json``, from which ``make pages`` renders the page. Deltas and
reports lie in ``build/evaluation/ablation`` and are found again.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import click
from rich.console import Console

from unsee.core.files import write_json
from unsee.core.unlearning_settings import AnchoredMode
from unsee.deltas.delta import Card
from unsee.evaluation.attacks import SoftPrompt
from unsee.evaluation.evaluate import EvaluationPlan
from unsee.evaluation.report.schema import Report
from unsee.jobs.job import UnlearnJob
from unsee.playground.experiments import counts
from unsee.playground.experiments.counts import EVERY_WORDING
from unsee.playground.experiments.own_base import (
    CATEGORIES,
    Experiment,
    experiment_options,
    own_report,
    policy_concept,
    slug,
    unlearned,
)
from unsee.playground.training.program import exit_code_of
from unsee.playground.world.world import Concept as WorldConcept
from unsee.playground.world.world import concepts_in

RECORD = "ablation.json"
SEED = 0
PLAN = EvaluationPlan(
    seed=SEED,
    prompts_per_wording=1,
    prompts_per_sibling=1,
    num_others=8,
    attack_prompts=2,
    media=("image", "video"),
    attacks=(SoftPrompt(starts=1, start_steps=8, steps=32),),
)
ATTACKERS = (0, 2, 4)
WEIGHTS = (0.2, 5.0)
RANKS = (4, 16, 64)


def variants(usual: AnchoredMode) -> dict[str, AnchoredMode]:
    """The settings by what is changed; those that change nothing are left out."""
    moved = 1 - usual.kept_at_least
    changed = {
        **{_attackers(count): replace(usual, attackers=count) for count in ATTACKERS},
        "a tenth as much may be moved": replace(usual, kept_at_least=1 - moved / 10),
        "ten times as much may be moved": replace(usual, kept_at_least=1 - moved * 10),
        **{f"rank {rank}": replace(usual, rank=rank) for rank in RANKS},
    }
    if usual.attackers:
        changed |= {
            f"attackers weigh {factor:g} times as much": replace(
                usual, attack_weight=usual.attack_weight * factor
            )
            for factor in WEIGHTS
        }
    found = {title: settings for title, settings in changed.items() if settings != usual}
    return {"as it is": usual, **found}


def _attackers(count: int) -> str:
    return f"{count} attackers" if count else "no attackers"


def subjects() -> list[WorldConcept]:
    """The first concept of each category, and a second person."""
    return [*(concepts_in(category)[0] for category in CATEGORIES), concepts_in("person")[1]]


@click.command()
@experiment_options
def ablation(experiment: Experiment) -> None:
    """Unlearn six concepts with one setting changed at a time, and measure each."""
    usual = experiment.base.spec.unlearn.anchored
    run(variants(usual), subjects(), PLAN, experiment, Console(stderr=True))


def run(
    settings: Mapping[str, AnchoredMode],
    concepts: Sequence[WorldConcept],
    plan: EvaluationPlan,
    experiment: Experiment,
    console: Console,
) -> None:
    """Every concept of every variant; the record is rewritten after each."""
    base, record = experiment.base, experiment.record(RECORD)
    found: dict[str, Any] = {**experiment.of_base(), "seed": plan.seed, "variants": {}}
    for title, setting in settings.items():
        variant: dict[str, Any] = {"settings": asdict(setting), "concepts": {}}
        found["variants"][title] = variant
        for concept in concepts:
            started = time.monotonic()
            console.print(f"[bold]{title}[/bold], {concept.name}")
            folder = experiment.build_dir / "ablation" / slug(title) / slug(concept.name)
            job = UnlearnJob(base, policy_concept(concept, base), setting, plan.seed)
            card = unlearned(job, folder / "delta").delta.card
            report = own_report(
                experiment.judged, folder / "delta", plan, folder / "report", experiment.frames_dir
            )
            variant["concepts"][concept.name] = recorded(card, report)
            write_json(record, found, indent=1)
            console.print(f"  {time.monotonic() - started:.0f} s", style="dim")
    console.print(f"{record} is written; `make pages` renders its page")


def recorded(card: Card, report: Report) -> dict[str, Any]:
    """One concept unlearned with one variant; `estimated_` are the learning's own figures."""
    attacks = counts.attacked(report, "video")
    found = {
        "seen, images": counts.forgotten(report, "image", EVERY_WORDING),
        "seen, clips": counts.forgotten(report, "video", EVERY_WORDING),
        **{f"{attack}, clips": each for attack, each in attacks.items()},
        "siblings kept, clips": counts.kept(report, "video", "sibling"),
        "others kept, clips": counts.kept(report, "video", "other"),
    }
    return {
        "seconds": round(sum(card.seconds.values()), 2),
        "estimated_erased": card.erased,
        "estimated_kept": card.kept,
        "motion_ratio": counts.motion_ratio(report),
        **counts.answered(found),
    }


if __name__ == "__main__":
    sys.exit(exit_code_of(ablation))
