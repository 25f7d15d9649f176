"""Policies of several concepts, composed from the deltas of `make evaluation`.

Writes ``docs/measured/composition.json``, from which ``make pages`` renders the page: how well a
policy forgets and keeps by every way of composing it, beside a joint solution of the same concepts,
how much the edit of one concept moves another, and, with ``--attack-prompts``, what attacks bring
back. Reports lie in ``build/evaluation/composed`` and are found again, those of attacks also by a
run that makes none.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import click
import numpy as np
from rich.console import Console

from unsee.core.errors import InputError, UnseeError
from unsee.core.files import write_json
from unsee.deltas.composition import Merge, compose
from unsee.deltas.delta import Delta
from unsee.deltas.edit import edited
from unsee.evaluation.evaluate import EvaluationPlan
from unsee.evaluation.report.schema import Media, Report, load_report
from unsee.evaluation.target import EvaluationTarget, target_of
from unsee.models.base import Base
from unsee.playground.experiments import counts
from unsee.playground.experiments.counts import EVERY_WORDING
from unsee.playground.experiments.every_concept import attacks_of
from unsee.playground.experiments.findings import attack_budgets
from unsee.playground.experiments.interference import interference
from unsee.playground.experiments.joint import joint_edit
from unsee.playground.experiments.own_base import (
    CATEGORIES,
    UNLEARNABLE,
    Experiment,
    attack_budget_option,
    experiment_options,
    report_of,
    usual_delta,
)
from unsee.playground.training.program import exit_code_of
from unsee.playground.world.world import Concept as WorldConcept
from unsee.playground.world.world import concepts_in

RECORD = "composition.json"
SEED = 0
SIZES = (2, 5, 10)
TOGETHER = ("character", "style")
JOINT = "joint"
WAYS: tuple[str, ...] = (*get_args(Merge), JOINT)
SERVED: Merge = "product"
"""How a policy is composed that is served."""


@dataclass(frozen=True)
class ConceptSet:
    """The concepts of a policy, under a name that is a folder's too."""

    name: str
    concepts: tuple[WorldConcept, ...]


@click.command()
@click.option(
    "--media",
    type=click.Choice(get_args(Media)),
    multiple=True,
    default=get_args(Media),
    show_default=True,
    help="With images actions are left out: no picture shows one.",
)
@click.option(
    "--attack-prompts",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Attack each concept of each policy, and count so many clips; 0 attacks none.",
)
@attack_budget_option
@click.option(
    "--attack-way",
    "attack_ways",
    type=click.Choice(WAYS),
    multiple=True,
    default=(SERVED,),
    show_default=True,
    help="Attack only what is composed in this way; may be repeated.",
)
@experiment_options
def composed_policies(
    media: tuple[Media, ...],
    attack_prompts: int,
    attack_budgets: tuple[int, ...],
    attack_ways: tuple[str, ...],
    experiment: Experiment,
) -> None:
    """Compose policies of 2 to 12 concepts in every way and measure what they forget and keep."""
    if attack_prompts and "video" not in media:
        raise InputError("--attack-prompts counts clips; add --media video")
    plan = attack_plan(attack_prompts, attack_budgets)
    plans = dict.fromkeys(attack_ways if attack_prompts else (), plan)
    run({one: concept_sets(one) for one in media}, experiment, Console(stderr=True), plans)


def plan_of(media: Media) -> EvaluationPlan:
    """A small plan: every concept of a set is asked in every wording."""
    return EvaluationPlan(
        seed=SEED,
        prompts_per_wording=1,
        prompts_per_sibling=1,
        num_others=8,
        attack_prompts=1,
        media=(media,),
        attacks=(),
    )


def attack_plan(prompts: int, budgets: Sequence[int]) -> EvaluationPlan:
    """The same plan in clips with every attack; its other clips are found again."""
    return replace(plan_of("video"), attack_prompts=prompts, attacks=attacks_of(budgets))


def concept_sets(media: Media) -> list[ConceptSet]:
    """The sets that can be asked about in ``media``; a smaller one is part of the next.

    They take concepts of all categories in turn, which come in the order of a fixed seed.
    """
    categories = [one for one in CATEGORIES if media == "video" or one != "action"]
    order = _in_turn(categories, np.random.default_rng(SEED))
    together = tuple(concept for category in TOGETHER for concept in concepts_in(category))
    return [
        *(ConceptSet(f"{size}-concepts", tuple(order[:size])) for size in SIZES),
        ConceptSet("all-" + "-and-".join(f"{category}s" for category in TOGETHER), together),
    ]


def _in_turn(categories: Sequence[str], rng: np.random.Generator) -> list[WorldConcept]:
    shuffled = [concepts_in(categories[int(i)]) for i in rng.permutation(len(categories))]
    columns = [[members[int(i)] for i in rng.permutation(len(members))] for members in shuffled]
    longest = max(map(len, columns))
    return [column[i] for i in range(longest) for column in columns if i < len(column)]


def run(
    asked: Mapping[Media, Sequence[ConceptSet]],
    experiment: Experiment,
    console: Console,
    attack_plans: Mapping[str, EvaluationPlan] | None = None,
) -> None:
    """The matrix from the deltas, then every set in every way; the record grows with each.

    ``attack_plans`` has the plans of the ways that are attacked, in clips.
    """
    base, record = experiment.base, experiment.record(RECORD)
    deltas = {one.name: usual_delta(one, SEED, experiment).delta for one in UNLEARNABLE}
    console.print("[bold]interference[/bold]")
    matrix = interference(base, list(deltas.values()), SEED)
    found: dict[str, Any] = {
        **experiment.of_base(),
        "seed": SEED,
        "policies": [],
        "interference": matrix,
    }
    attacked: list[Report] = []
    for media, one, way in _cells(asked):
        started = time.monotonic()
        console.print(f"[bold]{one.name}[/bold], {way}, {media}")
        members = [deltas[concept.name] for concept in one.concepts]
        encoder, seconds = composed_encoder(base, members, way)
        concepts = tuple(delta.card.concept for delta in members)
        target = target_of("policy", f"{one.name}-{way}", concepts, encoder)
        folder = experiment.build_dir / "composed" / media / one.name / way
        report = report_of(experiment.judged, target, plan_of(media), folder, experiment.frames_dir)
        cell = recorded(one, way, media, report, seconds)
        plan = (attack_plans or {}).get(way)
        under = (
            attack_report(target, report, one, way, experiment, plan) if media == "video" else None
        )
        if under is not None:
            attacked.append(under)
            cell["attacks"] = counts.attacked_concepts(under, media)
            found["attacks"] = attack_budgets(attacked)
        found["policies"].append(cell)
        write_json(record, found, indent=1)
        console.print(f"  {time.monotonic() - started:.0f} s", style="dim")
    console.print(f"{record} is written; `make pages` renders its page")


def attack_report(
    target: EvaluationTarget,
    plain: Report,
    policy: ConceptSet,
    way: str,
    experiment: Experiment,
    plan: EvaluationPlan | None,
) -> Report | None:
    """The report of the attacks on ``target`` by ``plan`` or, without one, by an earlier run.

    None if it is not to be attacked and never was; a report of another encoder, or that was made
    with other models, clips, questions or another recogniser than ``plain``, does not count.
    """
    folder = experiment.build_dir / "composed" / "attacked" / policy.name / way
    if plan is not None:
        return report_of(experiment.judged, target, plan, folder, experiment.frames_dir)
    try:
        report = load_report(folder)
    except UnseeError:
        return None
    is_of_target = report.target.encoder_digest == target.encoder_digest
    return report if is_of_target and _made_with(report) == _made_with(plain) else None


def _made_with(report: Report) -> tuple[object, ...]:
    settings = report.settings
    return (
        report.models.get("video"),
        settings.recogniser_digest,
        settings.questions_digest,
        settings.num_frames,
        settings.num_inference_steps,
        settings.guidance_scale,
    )


def recorded(
    policy: ConceptSet, way: str, media: Media, report: Report, seconds: float
) -> dict[str, Any]:
    """A policy composed in one way in so many seconds, and what the report counts."""
    return {
        "policy": policy.name,
        "concepts": [concept.name for concept in policy.concepts],
        "way": way,
        "media": media,
        "seconds_to_compose": round(seconds, 4),
        "motion_ratio": counts.motion_ratio(report),
        "erased": counts.forgotten(report, media, EVERY_WORDING),
        "lasting": counts.forgotten(report, media, EVERY_WORDING, "lasting"),
        "siblings": counts.kept(report, media, "sibling"),
        "others": counts.kept(report, media, "other"),
    }


def _cells(
    asked: Mapping[Media, Sequence[ConceptSet]],
) -> Iterator[tuple[Media, ConceptSet, str]]:
    for media, sets in asked.items():
        for one in sets:
            for way in WAYS:
                yield media, one, way


def composed_encoder(base: Base, deltas: Sequence[Delta], way: str) -> tuple[Any, float]:
    """The encoder that unsees the concepts of all deltas, and the seconds that composing took."""
    text_encoder = base.text_encoder()
    started = time.perf_counter()
    if way == JOINT:
        encoder = _joint_encoder(base, deltas)
    else:
        merge: Merge = way  # type: ignore[assignment]
        encoder = compose(text_encoder, deltas, merge)
    return encoder, time.perf_counter() - started


def _joint_encoder(base: Base, deltas: Sequence[Delta]) -> Any:
    anchors = {delta.card.concept: delta.card.anchor or "" for delta in deltas}
    return edited(base.text_encoder(), joint_edit(base, anchors, base.spec.unlearn.anchored, SEED))


if __name__ == "__main__":
    sys.exit(exit_code_of(composed_policies))
