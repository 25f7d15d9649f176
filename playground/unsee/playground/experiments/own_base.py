"""Unlearns and evaluates concepts of the playground's own base; where the results lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import click

from unsee.cli.progress import stage_progress
from unsee.core.errors import DeltaDamaged, InputError
from unsee.core.policy import Concept
from unsee.evaluation.asking.evaluation_set import load_evaluation_set
from unsee.evaluation.evaluate import EvaluationJob, EvaluationPlan, evaluate
from unsee.evaluation.report.schema import Report
from unsee.evaluation.seeing.recognisers import open_recogniser
from unsee.evaluation.target import EvaluationTarget, open_target
from unsee.jobs.job import Outcome, UnlearnJob, differences, given_images, run_job
from unsee.models.base import Base, load_base
from unsee.playground.networks.mixed_precision import use_mixed_precision
from unsee.playground.training.train_data import BASE_DIR, REPOSITORY
from unsee.playground.world.world import CONCEPTS
from unsee.playground.world.world import Concept as WorldConcept

EVALUATION_FILE = BASE_DIR / "evaluation.yaml"
Mode = Literal["paper", "anchored"]
MODES: tuple[Mode, ...] = ("paper", "anchored")

UNLEARNABLE = tuple(c for c in CONCEPTS if c.category != "background")
CATEGORIES = tuple(dict.fromkeys(c.category for c in UNLEARNABLE))


def concept_folder(build_dir: Path, mode: str, seed: int, name: str) -> Path:
    """Where ``delta`` and ``report`` of a concept lie."""
    return build_dir / mode / f"seed-{seed}" / slug(name)


def slug(name: str) -> str:
    """The name as a folder's."""
    return name.lower().replace(" ", "-")


def policy_concept(concept: WorldConcept) -> Concept:
    """The concept as a request to unsee it."""
    return Concept.model_validate(
        {"name": concept.name, "category": concept.category, "aliases": concept.aliases}
    )


def chosen(names: Sequence[str], categories: Sequence[str]) -> list[WorldConcept]:
    """The concepts with one of ``names`` and of one of ``categories``; empty means any.

    Raises:
        InputError: a name is no concept's that can be unlearned, or nothing is left.
    """
    known = {concept.name for concept in UNLEARNABLE}
    unknown = sorted(set(names) - known)
    if unknown:
        raise InputError(
            f"no concept of the playground to unlearn is called {unknown[0]!r}; "
            f"choose from: {', '.join(sorted(known))}"
        )
    left = [
        concept
        for concept in UNLEARNABLE
        if (not names or concept.name in names)
        and (not categories or concept.category in categories)
    ]
    if not left:
        raise InputError(
            f"none of {', '.join(names)} is of the category {' or '.join(categories)}; "
            "leave out --concept or --category"
        )
    return left


def unlearned(job: UnlearnJob, folder: Path) -> Outcome:
    """The job's delta in ``folder``: found there, or made in place of another one."""
    return run_job(job, folder, force=_is_outdated(job, folder), stage_progress=stage_progress)


def own_base() -> Base:
    """The playground's base."""
    return load_base(BASE_DIR)


def _is_outdated(job: UnlearnJob, folder: Path) -> bool:
    if not folder.exists():
        return False
    try:
        return bool(differences(job, folder, given_images(job)))
    except DeltaDamaged:
        return True


def own_report(
    base: Base, path: Path, plan: EvaluationPlan, folder: Path, frames_dir: Path
) -> Report:
    """The report of the policy file or delta folder ``path``, made in ``folder`` or found there."""
    return report_of(base, open_target(path, base), plan, folder, frames_dir)


def report_of(
    base: Base,
    target: EvaluationTarget,
    plan: EvaluationPlan,
    folder: Path,
    frames_dir: Path,
    *,
    painter: Base | None = None,
) -> Report:
    """The report of ``target``, made in ``folder`` or found there.

    ``painter`` is another base, whose judge recognises and whose pictures an attacker holds.
    """
    known = load_evaluation_set(EVALUATION_FILE)
    concepts = known.with_erased(target.concepts).concepts
    recogniser = open_recogniser(None, painter or base, concepts)
    job = EvaluationJob(base, target, known, recogniser, plan, painter=painter)
    return evaluate(
        job, folder, frames_dir=frames_dir, force=True, stage_progress=stage_progress
    ).report


def fast_base(folder: Path = BASE_DIR) -> Base:
    """A copy of the base for pictures, clips and attacks, with products in bfloat16."""
    base = load_base(folder)
    use_mixed_precision(base.denoiser())
    use_mixed_precision(base.t2v_denoiser())
    return base


concept_option = click.option(
    "--concept", "names", multiple=True, help="Only this one; may be repeated."
)
category_option = click.option(
    "--category",
    "categories",
    multiple=True,
    type=click.Choice(CATEGORIES),
    help="Only this one; may be repeated.",
)
attack_budget_option = click.option(
    "--attack-budget",
    "attack_budgets",
    type=click.IntRange(min=1),
    multiple=True,
    default=(1,),
    show_default=True,
    help="Run each attack with this multiple of its budget; may be repeated.",
)


def experiment_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that every experiment has: --threads, --build-dir and --output-dir."""
    folder = click.Path(path_type=Path)
    build_dir, output_dir = REPOSITORY / "build" / "evaluation", REPOSITORY / "docs" / "measured"
    options = (
        click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True),
        click.option(
            "--build-dir",
            type=folder,
            default=build_dir,
            help="Deltas, frames and reports.  [default: build/evaluation]",
        ),
        click.option(
            "--output-dir", type=folder, default=output_dir, help="[default: docs/measured]"
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command
