"""The `unsee unlearn` command."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unsee.cli.completion import complete_concepts
from unsee.cli.parameters import (
    FILE,
    FOLDER,
    NEW_FOLDER,
    Number,
    Whole,
    base_option,
    json_option,
    names_a_file,
)
from unsee.cli.progress import say, stage_progress
from unsee.core.categories import CATEGORIES
from unsee.core.errors import InputError, UnseeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from unsee.core.unlearning_settings import Settings
    from unsee.deltas.signature import FolderSigner
    from unsee.jobs.concept_list import WantedConcept
    from unsee.jobs.job import Outcome, UnlearnJob
    from unsee.models.base import Base
    from unsee.unlearning.estimate import Estimate

MODES = ("anchored", "paper")
INTERRUPTED = 130
_ABOUT_IMAGES = {"shots", "batch_size"}
"""The settings that nothing reads where no image is used."""
_DELTAS = Path("deltas")


@click.command()
@click.argument("concepts", nargs=-1, metavar="[CONCEPT]...", shell_complete=complete_concepts)
@click.option(
    "--concepts",
    "list_file",
    type=FILE,
    metavar="FILE",
    help="Read the concepts from this YAML file.",
)
@click.option("--category", type=click.Choice(CATEGORIES), help="Category of the concepts.")
@base_option
@click.option(
    "--also",
    "aliases",
    multiple=True,
    metavar="ALIAS",
    help="Another name of the concept. Repeat the option for several names.",
)
@click.option(
    "--anchor", metavar="TEXT", help="What to show instead of the concept.  [default: by category]"
)
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default="anchored",
    show_default=True,
    help="anchored: an edit that keeps other prompts as they are; paper: tuning as published.",
)
@click.option(
    "--shots",
    metavar="N",
    type=Whole(1),
    help="How many images attackers, or paper mode, learn from.  [default: 4]",
)
@click.option(
    "--images",
    "images_dir",
    type=FOLDER,
    help="Images for attackers, or paper mode, instead of generated ones.",
)
@click.option(
    "--rank",
    metavar="N",
    type=Whole(1),
    help="Greatest rank of the edit (anchored mode).",
)
@click.option(
    "--attackers",
    metavar="N",
    type=Whole(0),
    help="How many soft prompts may attack the edit while it is learned (anchored mode).",
)
@click.option(
    "--kept-at-least",
    metavar="X",
    type=Number(min=0, max=1, min_open=True, max_open=True),
    help="Share of the other prompts' variance that the edit must keep (anchored mode).",
)
@click.option(
    "--learning-rate",
    metavar="X",
    type=Number(min=0, min_open=True, max=1),
    help="Learning rate of Adam (paper mode).",
)
@click.option(
    "--epochs",
    metavar="N",
    type=Whole(1),
    help="How often to go through the images (paper mode).",
)
@click.option(
    "--batch-size",
    metavar="N",
    type=Whole(1),
    help="Number of noised images in a step of attackers, or paper mode.",
)
@click.option(
    "--seed",
    metavar="N",
    type=Whole(0),
    default=0,
    show_default=True,
    help="Random seed; equal seeds give equal deltas.",
)
@click.option(
    "-o", "--output", type=NEW_FOLDER, help="Folder to write the delta to, for a single concept."
)
@click.option(
    "--output-dir",
    type=NEW_FOLDER,
    help="Folder to write a folder per delta to.  [default: deltas]",
)
@click.option(
    "--force",
    is_flag=True,
    help="Start again from the beginning, and replace another delta in the folder.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and how long it would take.")
@click.option("--log-dir", type=NEW_FOLDER, help="Write TensorBoard scalars below this folder.")
@click.option(
    "--sign-with", type=FILE, metavar="KEY.pem", help="Sign each delta with this private key."
)
@json_option
def unlearn(
    concepts: tuple[str, ...],
    list_file: Path | None,
    category: str | None,
    base_path: Path,
    aliases: tuple[str, ...],
    anchor: str | None,
    mode: str,
    images_dir: Path | None,
    seed: int,
    output: Path | None,
    output_dir: Path | None,
    force: bool,
    dry_run: bool,
    log_dir: Path | None,
    sign_with: Path | None,
    as_json: bool,
    **overrides: Any,
) -> None:
    """Learn to unsee each CONCEPT, and write a delta of the base's text encoder for it.

    The default mode computes an edit of what the text encoder says where the concept is named.
    With --attackers, or in paper mode, a few images of the concept are generated first (or read
    from --images). The base is not changed. Ctrl-C is safe: run the command again, and it goes on
    where it stopped.

    \b
    Examples:
      unsee unlearn "Blimbo" --category character --base bases/playground -o deltas/blimbo
      unsee unlearn Blimbo Zorpik --category character --base bases/playground
      unsee unlearn --concepts concepts.yaml --base bases/playground --dry-run

    \b
    concepts.yaml:
      concepts:
        - {concept: Blimbo, category: character, also: [Blimby], anchor: a cartoon character}
        - {concept: Van Gogh, category: style}
    """
    from unsee.models.base import load_base
    from unsee.models.check import require

    base = load_base(base_path)
    for note in require(base):
        say(note)
    wanted = _wanted(concepts, list_file, category, aliases, anchor)
    folders = _folders(wanted, output, output_dir)
    if log_dir is not None:
        _check_apart(log_dir, folders)
    jobs = _jobs(base, wanted, mode, overrides, images_dir, seed)
    if dry_run:
        _print_plans(jobs, folders, force=force, as_json=as_json)
        return
    from unsee.jobs import outcome_text

    outcomes: list[Outcome] = []
    try:
        work = _Work(force, log_dir, _signer(sign_with))
        for outcome in _unlearn_all(list(zip(jobs, folders, strict=True)), work):
            outcomes.append(outcome)
            if not as_json:
                click.echo(outcome_text.in_words(outcome))
    finally:
        if as_json and outcomes:
            click.echo(outcome_text.as_json(outcomes))


@dataclass(frozen=True)
class _Work:
    """How every job of a command is done."""

    force: bool
    log_dir: Path | None
    signer: FolderSigner | None

    def log(self, folder: Path) -> AbstractContextManager[Callable[[Estimate], None]]:
        if self.log_dir is None:
            return nullcontext(lambda estimate: None)
        from unsee.jobs.tensorboard_log import tensorboard_log

        return tensorboard_log(self.log_dir / folder.name)

    def do(self, job: UnlearnJob, folder: Path) -> Outcome:
        from unsee.jobs.job import run_job

        with self.log(folder) as watch:
            outcome = run_job(
                job,
                folder,
                force=self.force,
                stage_progress=stage_progress,
                say=say,
                watch=watch,
            )
        if self.signer is not None:
            self.signer.sign(folder)
        return outcome


def _unlearn_all(tasks: Sequence[tuple[UnlearnJob, Path]], work: _Work) -> Iterator[Outcome]:
    """Do the jobs in turn; the first failure or Ctrl-C ends them, and what was done stays."""
    for number, (job, folder) in enumerate(tasks, start=1):
        if len(tasks) > 1:
            say(f"[{number}/{len(tasks)}] {job.concept.name}")
        try:
            outcome = work.do(job, folder)
        except KeyboardInterrupt as interrupt:
            say(str(interrupt) or "interrupted; the same command goes on")
            _say_what_stays(number - 1, len(tasks))
            raise click.exceptions.Exit(INTERRUPTED) from interrupt
        except (UnseeError, OSError):
            _say_what_stays(number - 1, len(tasks))
            raise
        yield outcome


def _say_what_stays(done: int, total: int) -> None:
    if total > 1:
        say(f"{done} of {total} concepts are done and stay; the same command skips them")


def _wanted(
    names: tuple[str, ...],
    list_file: Path | None,
    category: str | None,
    aliases: tuple[str, ...],
    anchor: str | None,
) -> tuple[WantedConcept, ...]:
    from unsee.jobs.concept_list import load_concept_list, named_concepts

    if list_file is None:
        if not names:
            raise InputError("no concept is given; name one or list some with --concepts FILE")
        if not all(name.strip() for name in names):
            raise InputError("the name of a concept is empty; say what is to be unseen")
        if file := next(filter(names_a_file, names), None):
            raise InputError(f"{file} is a file; for the concepts in it: --concepts {file}")
        if category is None:
            raise InputError(f"--category is missing; choose one of {', '.join(CATEGORIES)}")
        return named_concepts(names, category, aliases, anchor)
    beside = {"CONCEPT": names, "--category": category, "--also": aliases, "--anchor": anchor}
    given = [option for option, value in beside.items() if value]
    if given:
        raise InputError(
            f"--concepts {list_file} says everything about the concepts; leave out {given[0]}"
        )
    return load_concept_list(list_file)


def _folders(
    wanted: Sequence[WantedConcept], output: Path | None, output_dir: Path | None
) -> list[Path]:
    if output is None:
        return [(output_dir or _DELTAS) / entry.folder_name for entry in wanted]
    if output_dir is not None:
        raise InputError("-o names the delta's own folder and --output-dir its parent; give one")
    if len(wanted) > 1:
        raise InputError(
            f"-o names the folder of one delta and {len(wanted)} concepts are given; "
            "name the folder above them with --output-dir"
        )
    return [output]


def _check_apart(log_dir: Path, folders: Sequence[Path]) -> None:
    """The log would be a foreign file in a delta's folder, which is then neither read nor kept."""
    logs = [(log_dir / folder.name).resolve() for folder in folders]
    for folder in folders:
        if any(folder.resolve() in (log, *log.parents) for log in logs):
            raise InputError(
                f"--log-dir {log_dir} would write the log into the delta's folder {folder}; "
                "give another one"
            )


def _jobs(
    base: Base,
    wanted: Sequence[WantedConcept],
    mode: str,
    overrides: dict[str, Any],
    images_dir: Path | None,
    seed: int,
) -> list[UnlearnJob]:
    from unsee.jobs.job import UnlearnJob

    if images_dir is not None and len(wanted) > 1:
        raise InputError(
            f"--images {images_dir} shows one concept and {len(wanted)} are given; "
            "unlearn them one by one"
        )
    return [
        UnlearnJob(
            base,
            entry.concept,
            _settings(base, mode, overrides | {"anchor": entry.anchor}, images_dir),
            seed,
            images_dir,
        )
        for entry in wanted
    ]


def _settings(
    base: Base, mode: str, overrides: dict[str, Any], images_dir: Path | None
) -> Settings:
    """What the base recommends for the mode, and over it what the command line says."""
    from dataclasses import fields, replace

    from pydantic import ValidationError

    from unsee.core.validation import describe
    from unsee.images.image_folder import image_files
    from unsee.jobs.job import ignored

    unlearn = base.spec.unlearn
    recommended = unlearn.paper if mode == "paper" else unlearn.anchored
    given = {name: value for name, value in overrides.items() if value is not None}
    foreign = given.keys() - {field.name for field in fields(recommended)}
    if foreign:
        raise InputError(
            f"{_option(min(foreign))} does not belong to --mode {mode}; "
            "leave it out or choose the other mode"
        )
    try:
        settings = replace(recommended, **given)
    except ValidationError as error:
        raise InputError(f"the settings are not valid: {describe(error)}") from error
    about_images = given.keys() & _ABOUT_IMAGES
    if about_images and not settings.uses_images:
        raise ignored(_option(min(about_images)))
    if images_dir is not None and settings.uses_images and "shots" not in given:
        return replace(settings, shots=len(image_files(images_dir)))
    return settings


def _option(name: str) -> str:
    """The option that sets the parameter `name` of the command."""
    options = (parameter for parameter in unlearn.params if parameter.name == name)
    return next(options).opts[-1]


def _signer(private_key: Path | None) -> FolderSigner | None:
    if private_key is None:
        return None
    from unsee.deltas.signature import load_signer

    return load_signer(private_key)


def _print_plans(
    jobs: Sequence[UnlearnJob], folders: Sequence[Path], *, force: bool, as_json: bool
) -> None:
    from unsee.jobs.plan import make_plan

    plans = [make_plan(job, folder, force=force) for job, folder in zip(jobs, folders, strict=True)]
    if as_json:
        click.echo(json.dumps({"plans": [json.loads(plan.as_json()) for plan in plans]}, indent=2))
        return
    for plan in plans:
        click.echo(plan.in_words())
