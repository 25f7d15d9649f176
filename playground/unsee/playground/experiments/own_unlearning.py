"""Unlearns concepts of the playground, and knows where their deltas and reports lie.

Knows folders and when a delta has to be made anew; does not know what is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from unsee.cli.progress import stage_progress
from unsee.core.errors import DeltaDamaged, InputError
from unsee.core.policy import Concept
from unsee.jobs.job import Outcome, UnlearnJob, differences, run_job
from unsee.models.base import Base, load_base
from unsee.playground.training.train_data import BASE_DIR
from unsee.playground.world.world import CONCEPTS
from unsee.playground.world.world import Concept as WorldConcept

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
        return bool(differences(job, folder, None))
    except DeltaDamaged:
        return True
