"""Unlearns and evaluates concepts of a base of ours; which there are, and where results lie."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, Literal, get_args

import click
import torch
from diffusers import WanTransformer3DModel

from unsee.cli.parameters import PATH
from unsee.cli.progress import stage_progress
from unsee.core.errors import BaseFolderError, DeltaDamaged, InputError
from unsee.core.files import digest_of
from unsee.core.policy import Concept
from unsee.deltas.folder import load_card
from unsee.evaluation.asking.evaluation_set import EvaluationSet, load_evaluation_set
from unsee.evaluation.evaluate import EvaluationJob, EvaluationPlan, evaluate
from unsee.evaluation.report.schema import Media, Report
from unsee.evaluation.seeing.recognisers import at_home, open_recogniser
from unsee.evaluation.target import EvaluationTarget, open_target
from unsee.jobs.job import Outcome, UnlearnJob, differences, given_images, run_job
from unsee.models.base import Base, load_base
from unsee.models.components import source_place
from unsee.models.pipelines.wan_padding import leave_out_padding
from unsee.models.spec import BASE_FILE
from unsee.playground.networks.mixed_precision import use_fast_products
from unsee.playground.training.train_data import BASE_DIR, REPOSITORY
from unsee.playground.world.languages import ENGLISH, LANGUAGES, Language
from unsee.playground.world.world import CONCEPTS
from unsee.playground.world.world import Concept as WorldConcept

FIRST = BASE_DIR.name
"""The base that is meant where none is named."""
Mode = Literal["paper", "without-prompts", "anchored"]
"""``without-prompts`` is the default mode as it is on a base that names no prompts file."""
MODES: tuple[Mode, ...] = get_args(Mode)
"""The page of results is about the last of them that was measured."""

UNLEARNABLE = tuple(c for c in CONCEPTS if c.category != "background")
CATEGORIES = tuple(dict.fromkeys(c.category for c in UNLEARNABLE))


@dataclass(frozen=True)
class Experiment:
    """A base of ours, and where its deltas, frames and reports, and its records go."""

    base: Base
    build_dir: Path
    output_dir: Path

    @classmethod
    def on(cls, base: Base, build_dir: Path | None, output_dir: Path | None) -> Experiment:
        """Where nothing else is said, a base other than the first has folders of its own name."""
        own = own_folder(base)
        build, measured = REPOSITORY / "build" / "evaluation", REPOSITORY / "docs" / "measured"
        return cls(base, build_dir or build / own, output_dir or measured / own)

    @cached_property
    def judged(self) -> Base:
        """A copy of the base for pictures, clips and attacks (see `fast_base`)."""
        return fast_base(self.base.folder)

    @property
    def frames_dir(self) -> Path:
        return self.build_dir / "frames"

    def record(self, name: str) -> Path:
        """The file of a record.

        Raises `InputError` if another base's lies there; one that names none is the first base's.
        """
        file = self.output_dir / name
        of_base = json.loads(file.read_bytes()).get("base", FIRST) if file.is_file() else None
        if of_base not in (None, self.base.name):
            raise InputError(
                f"{file} holds what was found on the base {of_base!r}, and this is "
                f"{self.base.name!r}; choose another --output-dir"
            )
        return file

    def of_base(self) -> dict[str, str]:
        """What a record says of the base that it is of.

        ``base_digest`` is the text encoder's, ``weights_digest`` that of every file of weights in
        the base's folder, its judge's among them.
        """
        return {
            "base": self.base.name,
            "base_digest": self.base.digest(),
            "weights_digest": self._weights_digest,
        }

    @cached_property
    def _weights_digest(self) -> str:
        files = sorted(self.base.folder.rglob("*.safetensors"))
        return digest_of(b"".join(digest_of(file.read_bytes()).encode() for file in files))


def found_before(record: Path, head: Mapping[str, Any]) -> dict[str, Any]:
    """What ``record`` holds besides ``head``, so that a run adds to what others have measured.

    Nothing if it is not there, or has another head: other settings, or another base.
    """
    content: dict[str, Any] = json.loads(record.read_bytes()) if record.is_file() else {}
    if any(content.get(name) != value for name, value in json.loads(json.dumps(head)).items()):
        return {}
    return {name: value for name, value in content.items() if name not in head}


def own_folder(base: Base) -> str:
    """The folder for what is found on ``base``, in that of the first base, whose own is ``""``.

    A copy of the first base in another place is another one, though it has the same name. Raises
    `InputError` if no folder can have the base's name.
    """
    if base.folder == BASE_DIR:
        return ""
    folder = re.sub(r"[^\w.-]+", "-", base.name).strip(".-")
    if not folder:
        raise InputError(
            f"no folder for results can be named after the base {base.name!r}; give name in its "
            f"{BASE_FILE} a letter"
        )
    return folder


def find_base(name: str) -> Path:
    """The folder of the base that has that name in ``bases/``, or else the folder ``name``.

    Raises:
        InputError: there is none.
        BaseFolderError: its file is wrong, or its weights are not there.
    """
    bases = REPOSITORY / "bases"
    places = (bases / name, Path(at_home(name)))
    folder = next((at for at in places if (at / BASE_FILE).is_file()), None)
    if folder is None:
        known = sorted(file.parent.name for file in bases.glob(f"*/{BASE_FILE}"))
        raise InputError(
            f"there is no base {name!r}; there are {', '.join(known)}, and any folder that holds "
            f"a {BASE_FILE}"
        )
    base = load_base(folder)
    weights = source_place(base.folder, base.spec.t2v)
    if isinstance(weights, Path) and not (weights / "model_index.json").is_file():
        command = f"unsee.playground.training.train --base {base.folder.name} --stage all"
        ours = base.folder.parent == bases
        remedy = f"make them with `python -m {command}`" if ours else "name another folder"
        raise BaseFolderError(f"the base {base.name!r} has no weights in {weights} yet; {remedy}")
    return base.folder


def evaluation_set(base: Base) -> EvaluationSet:
    """What the base can be asked; one that names no file is asked as the first one is."""
    asked = base if base.spec.evaluation else load_base(BASE_DIR)
    return load_evaluation_set(asked.folder / (asked.spec.evaluation or ""))


def languages_of(base: Base) -> tuple[Language, ...]:
    """The languages in which the base is asked."""
    others = evaluation_set(base).languages
    return (ENGLISH, *(LANGUAGES[name] for name in others if name in LANGUAGES))


def base_for_mode(base: Base, mode: Mode) -> Base:
    """The base on which ``mode`` unlearns: itself, or the same models without its prompts file.

    Raises:
        InputError: there is no such file to leave out.
    """
    if mode != "without-prompts":
        return base
    if base.spec.prompts is None:
        raise InputError(
            f"the base {base.name!r} names no prompts file, so its default mode is without prompts "
            "already; use --mode anchored"
        )
    return replace(base, spec=base.spec.model_copy(update={"prompts": None}))


def concept_folder(build_dir: Path, mode: str, seed: int, name: str) -> Path:
    """Where ``delta`` and ``report`` of a concept lie."""
    return build_dir / mode / f"seed-{seed}" / slug(name)


def slug(name: str) -> str:
    """The name as a folder's."""
    return name.lower().replace(" ", "-")


def policy_concept(concept: WorldConcept, base: Base) -> Concept:
    """The concept as a request to unsee it, by its names in every language of the base."""
    foreign = [
        word
        for language in languages_of(base)
        if language is not ENGLISH
        for word in language.words_of(concept.name)
        if word != concept.name
    ]
    aliases = (*concept.aliases, *foreign)
    return Concept.model_validate(
        {"name": concept.name, "category": concept.category, "aliases": aliases}
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
    """The job's delta in ``folder``: found there, or made in place of another one.

    Raises:
        InputError: that is another base's.
    """
    return run_job(job, folder, force=_is_outdated(job, folder), stage_progress=stage_progress)


def usual_delta(concept: WorldConcept, seed: int, experiment: Experiment) -> Outcome:
    """The default mode's delta of `make evaluation`; made if it is not there."""
    base = experiment.base
    job = UnlearnJob(base, policy_concept(concept, base), base.spec.unlearn.anchored, seed)
    folder = concept_folder(experiment.build_dir, "anchored", seed, concept.name)
    return unlearned(job, folder / "delta")


def _is_outdated(job: UnlearnJob, folder: Path) -> bool:
    if not folder.exists():
        return False
    try:
        of_base = load_card(folder).base
        if of_base != job.base.name:
            raise InputError(
                f"{folder} holds what was found on the base {of_base!r}, and this is "
                f"{job.base.name!r}; choose another --build-dir"
            )
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
    known = evaluation_set(painter or base)
    concepts = known.with_erased(target.concepts).concepts
    recogniser = open_recogniser(None, painter or base, concepts)
    job = EvaluationJob(base, target, known, recogniser, plan, painter=painter)
    return evaluate(
        job, folder, frames_dir=frames_dir, force=True, stage_progress=stage_progress
    ).report


def fast_base(folder: Path) -> Base:
    """A copy of the base for pictures, clips and attacks, with products in bfloat16 if that pays
    here and, of Wan's classes, without a prompt's padding."""
    base = load_base(folder)
    for denoiser in {id(one): one for one in (base.denoiser(), base.t2v_denoiser())}.values():
        use_fast_products(denoiser)
        if isinstance(denoiser, WanTransformer3DModel):
            leave_out_padding(denoiser)
    return base


base_option = click.option(
    "--base",
    "base_dir",
    default=FIRST,
    show_default=True,
    callback=lambda _context, _option, name: find_base(name),
    help="One of bases/ by its name, or a folder.",
)


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
media_option = click.option(
    "--media",
    type=click.Choice(get_args(Media)),
    default="video",
    show_default=True,
    help="What is looked at. No image shows an action.",
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
    """--base, --threads, --build-dir and --output-dir; the command is given an `experiment`."""

    @wraps(command)
    def on_base(
        *,
        base_dir: Path,
        threads: int,
        build_dir: Path | None,
        output_dir: Path | None,
        **options: Any,
    ) -> None:
        torch.set_num_threads(threads)
        experiment = Experiment.on(load_base(base_dir), build_dir, output_dir)
        command(experiment=experiment, **options)

    options = (
        base_option,
        click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True),
        click.option(
            "--build-dir",
            type=PATH,
            help="Deltas, frames and reports.  [default: build/evaluation, and in it a folder of "
            "another base's name]",
        ),
        click.option(
            "--output-dir",
            type=PATH,
            help="The record.  [default: docs/measured, and in it a folder of another base's name]",
        ),
    )
    wrapped: Callable[..., Any] = on_base
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped
