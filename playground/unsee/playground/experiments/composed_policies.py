"""Policies of several concepts, composed from the deltas of `make evaluation`.

Writes ``docs/measured/composition.json``, from which ``make pages`` renders the page: how well a
policy forgets and keeps by every way of composing it, beside a joint solution of the same concepts,
and how much the edit of one concept moves another. Reports lie in ``build/evaluation/composed`` and
are found again.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import click
import numpy as np
from rich.console import Console

from unsee.core.files import write_json
from unsee.core.policy import Thresholds
from unsee.deltas.composition import Merge, compose
from unsee.deltas.delta import Delta
from unsee.deltas.edit import edited
from unsee.evaluation.evaluate import EvaluationPlan
from unsee.evaluation.report.schema import Media, Report
from unsee.evaluation.target import EvaluationTarget
from unsee.jobs.job import UnlearnJob
from unsee.models.base import Base
from unsee.models.digest import tensors_digest
from unsee.playground.experiments import counts
from unsee.playground.experiments.counts import EVERY_WORDING
from unsee.playground.experiments.interference import interference
from unsee.playground.experiments.joint import joint_edit
from unsee.playground.experiments.own_base import (
    CATEGORIES,
    UNLEARNABLE,
    Experiment,
    concept_folder,
    experiment_options,
    policy_concept,
    report_of,
    unlearned,
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
@experiment_options
def composed_policies(media: tuple[Media, ...], experiment: Experiment) -> None:
    """Compose policies of 2 to 12 concepts in every way and measure what they forget and keep."""
    run({one: concept_sets(one) for one in media}, experiment, Console(stderr=True))


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
) -> None:
    """The matrix from the deltas, then every set in every way; the record grows with each."""
    base, record = experiment.base, experiment.output_dir / RECORD
    deltas = {concept.name: delta_of(concept, experiment) for concept in UNLEARNABLE}
    console.print("[bold]interference[/bold]")
    matrix = interference(base, list(deltas.values()), SEED)
    found: dict[str, Any] = {
        **experiment.of_base(),
        "seed": SEED,
        "policies": [],
        "interference": matrix,
    }
    for media, one, way in _cells(asked):
        started = time.monotonic()
        console.print(f"[bold]{one.name}[/bold], {way}, {media}")
        members = [deltas[concept.name] for concept in one.concepts]
        encoder, seconds = composed_encoder(base, members, way)
        report = report_of(
            experiment.judged,
            target_of(f"{one.name}-{way}", members, encoder),
            plan_of(media),
            experiment.build_dir / "composed" / media / one.name / way,
            experiment.frames_dir,
        )
        found["policies"].append(recorded(one, way, media, report, seconds))
        write_json(record, found, indent=1)
        console.print(f"  {time.monotonic() - started:.0f} s", style="dim")
    console.print(f"{record} is written; `make pages` renders its page")


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


def delta_of(concept: WorldConcept, experiment: Experiment) -> Delta:
    """The default mode's delta of `make evaluation`; made if it is not there."""
    base = experiment.base
    job = UnlearnJob(base, policy_concept(concept, base), base.spec.unlearn.anchored, SEED)
    folder = concept_folder(experiment.build_dir, "anchored", SEED, concept.name)
    return unlearned(job, folder / "delta").delta


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


def target_of(name: str, deltas: Sequence[Delta], text_encoder: Any) -> EvaluationTarget:
    """The encoder as a policy to be evaluated."""
    return EvaluationTarget(
        kind="policy",
        name=name,
        concepts=tuple(delta.card.concept for delta in deltas),
        text_encoder=text_encoder.requires_grad_(False),
        encoder_digest=tensors_digest(text_encoder.state_dict()),
        thresholds=Thresholds(),
    )


if __name__ == "__main__":
    sys.exit(exit_code_of(composed_policies))
