"""One concept from name to delta folder: images, unlearning, saving, and when there is no need."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image

from unsee.core.errors import InputError
from unsee.core.policy import Concept
from unsee.core.unlearning_settings import Settings
from unsee.deltas.delta import Delta
from unsee.deltas.folder import check_writable, is_taken, load_card, load_delta, save_delta
from unsee.images.few_shot import few_shot_prompts, generate_few_shot_images
from unsee.images.image_folder import load_images
from unsee.models.base import Base
from unsee.models.check import require
from unsee.models.digest import images_digest
from unsee.prompts.naming import Names, check_known, parted
from unsee.prompts.ordinary import asked_prompts
from unsee.unlearning.checkpoint import FolderCheckpoint, open_checkpoint, partial_folder
from unsee.unlearning.estimate import Estimate
from unsee.unlearning.unlearn import unlearn

Report = Callable[[int, int, str], None]
StageProgress = Callable[[str], AbstractContextManager[Report]]
_LIBRARIES_OF_A_STATE = ("unsee", "torch", "transformers", "diffusers")


@dataclass(frozen=True)
class UnlearnJob:
    """What is to be unlearned from what; `settings.shots` is the number of images.

    With `images_dir` the first `settings.shots` images of that folder are used, else they are
    generated. Settings that use no images get none.
    """

    base: Base
    concept: Concept
    settings: Settings
    seed: int
    images_dir: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """The delta in `folder`; `reused` says that it lay there already."""

    folder: Path
    delta: Delta
    reused: bool


class JobInterrupted(KeyboardInterrupt):
    """Ctrl-C came while a job was at work; the message says where it stopped and how it goes on."""


def run_job(
    job: UnlearnJob,
    folder: Path,
    *,
    force: bool,
    stage_progress: StageProgress,
    say: Callable[[str], None] = lambda sentence: None,
    watch: Callable[[Estimate], None] = lambda estimate: None,
) -> Outcome:
    """Do the job and save its delta and images as `folder`, or find that it was done before.

    A job that was interrupted goes on where it was, unless `force` is given, and gives the delta
    that it would have given; `say` is called with a sentence about that, and `watch` with every
    step's estimate.

    Raises `InputError` if `folder` holds another delta and `force` is not given, and
    `JobInterrupted` on Ctrl-C; what any stage raises is passed on, and `folder` is then as it was.
    """
    require(job.base)
    check_known(job.base, job.concept)
    images = given_images(job)
    identity = _identity(job, images)
    if is_taken(folder) and not force:
        return _found(job, folder, images, identity)
    check_writable(folder, force=force)
    _say_near_names(job, say)
    with open_checkpoint(folder, identity, anew=force) as checkpoint:
        run = _Run(job, checkpoint, stage_progress, say, watch)
        try:
            delta, images = run.delta_of(images)
        except KeyboardInterrupt as error:
            raise JobInterrupted(run.where_it_stopped(folder, force=force)) from error
        save_delta(delta, folder, images=images, force=force)
        checkpoint.remove()
    return Outcome(folder=folder, delta=delta, reused=False)


def _say_near_names(job: UnlearnJob, say: Callable[[str], None]) -> None:
    _, near, _ = parted(asked_prompts(job.base), [Names.of(job.base, job.concept)])
    if near:
        whose = "ordinary" if job.base.spec.prompts is None else "of the base's"
        say(
            f"{len(near)} {whose} prompts nearly name {job.concept.name!r}, such as "
            f"{near[0]!r}: they are neither forgotten nor kept; --also NAME forgets them too"
        )


def given_images(job: UnlearnJob) -> list[Image.Image] | None:
    """The images that the job is to use, RGB, or None if they are to be generated.

    Raises `InputError` if the folder cannot be read or holds too few, or if no image is used.
    """
    if not job.settings.uses_images:
        if job.images_dir is not None:
            raise ignored(f"--images {job.images_dir}")
        return []
    if job.images_dir is None:
        return None
    images = load_images(job.images_dir)
    if len(images) < job.settings.shots:
        raise InputError(
            f"{job.images_dir} holds {len(images)} images, {job.settings.shots} were asked for"
        )
    return images[: job.settings.shots]


def ignored(option: str) -> InputError:
    """The error of an option about images where none are used."""
    return InputError(
        f"{option} would be ignored: without attackers this mode learns from the name alone; "
        "leave it out, or add --attackers N or --mode paper"
    )


def differences(job: UnlearnJob, folder: Path, images: list[Image.Image] | None) -> list[str]:
    """What sets the delta in `folder` apart from the one that the job would make, by name."""
    expected = _asked_for(job, images)
    card = load_card(folder)
    return [name for name, value in expected.items() if getattr(card, name) != value]


class _Run:
    """The stages of a job that needs to be done, and how far they are."""

    def __init__(
        self,
        job: UnlearnJob,
        checkpoint: FolderCheckpoint,
        stage_progress: StageProgress,
        say: Callable[[str], None],
        watch: Callable[[Estimate], None],
    ) -> None:
        self._job = job
        self._checkpoint = checkpoint
        self._stage_progress = stage_progress
        self._say = say
        self._watch = watch
        self._last: Estimate | None = None

    def delta_of(self, given: list[Image.Image] | None) -> tuple[Delta, list[Image.Image]]:
        if not self._checkpoint.is_empty():
            self._say(f"this job was interrupted before; it goes on {self._where_it_goes_on()}")
        if given is not None:
            return self._unlearn(given), given
        images, seconds = self._generated()
        delta = self._unlearn(images)
        card = delta.card.model_copy(
            update={
                "image_source": "generated",
                "prompts": few_shot_prompts(self._job.base, self._job.concept, len(images)),
                "seconds": {"few_shot_images": seconds} | delta.card.seconds,
            }
        )
        return replace(delta, card=card), images

    def where_it_stopped(self, folder: Path, *, force: bool) -> str:
        stopped = "interrupted before a first step was kept"
        if self._last is not None:
            stopped = f"interrupted at step {self._last.step} of {self._last.total}"
        elif self._checkpoint.saved_step is not None:
            stopped = "interrupted again"
        if self._checkpoint.is_empty():
            return f"{stopped}; the same command starts from the beginning"
        if force and folder.exists():
            return f"{stopped}; {folder} is as it was, and the same command starts anew (--force)"
        command = "the same command without --force" if force else "the same command"
        return f"{stopped}; {command} goes on {self._where_it_goes_on()}"

    def _where_it_goes_on(self) -> str:
        if self._checkpoint.saved_step is None:
            return "with the images that were made"
        return f"after step {self._checkpoint.saved_step}"

    def _generated(self) -> tuple[list[Image.Image], float]:
        kept = self._checkpoint.load_images()
        if kept is not None:
            return kept.images, kept.seconds
        started = time.perf_counter()
        with self._stage_progress("few-shot images") as report:
            images = generate_few_shot_images(
                self._job.base,
                self._job.concept,
                self._job.settings.shots,
                self._job.seed,
                progress=lambda step, total: report(step, total, ""),
            )
        seconds = round(time.perf_counter() - started, 3)
        self._checkpoint.save_images(images, seconds)
        return images, seconds

    def _unlearn(self, images: list[Image.Image]) -> Delta:
        with self._stage_progress("unlearning") as report:

            def on_step(estimate: Estimate) -> None:
                self._last = estimate
                self._checkpoint.step = estimate.step
                self._watch(estimate)
                report(estimate.step, estimate.total, in_words(estimate))

            return unlearn(
                self._job.base,
                self._job.concept,
                images,
                self._job.settings,
                self._job.seed,
                progress=on_step,
                checkpoint=self._checkpoint,
            )


def in_words(estimate: Estimate) -> str:
    """The running estimate as it stands beside a progress bar."""
    if estimate.erased is None or estimate.kept is None:
        return f"loss {estimate.loss:.4f}"
    return f"erased {estimate.erased:.0%} · kept {estimate.kept:.1%}".replace("%", " %")


def _found(
    job: UnlearnJob,
    folder: Path,
    images: list[Image.Image] | None,
    identity: dict[str, Any],
) -> Outcome:
    check_writable(folder, force=True)
    try:
        differing, delta = differences(job, folder, images), load_delta(folder)
    except InputError as error:
        raise InputError(f"{error}; to replace what is there, add --force") from error
    if differing:
        raise InputError(
            f"{folder} already holds another delta ({', '.join(differing)} differ); "
            "choose another output or add --force"
        )
    outcome = Outcome(folder=folder, delta=delta, reused=True)
    if partial_folder(folder).exists():
        with open_checkpoint(folder, identity) as checkpoint:
            checkpoint.remove()
    return outcome


def _asked_for(job: UnlearnJob, images: list[Image.Image] | None) -> dict[str, Any]:
    """What identifies the job's delta, by the names of the card's fields."""
    expected: dict[str, Any] = {
        "base_digest": job.base.digest(),
        "concept": job.concept,
        "method": job.settings.method,
        "settings": job.settings,
        "seed": job.seed,
        "image_source": _source(images),
    }
    if images:
        expected["images_digest"] = images_digest(images)
    return expected


def _source(images: list[Image.Image] | None) -> str:
    if images is None:
        return "generated"
    return "given" if images else "none"


def _identity(job: UnlearnJob, images: list[Image.Image] | None) -> dict[str, Any]:
    """What a kept state belongs to, as JSON values: the job and what computes it."""
    return _asked_for(job, images) | {
        "concept": job.concept.model_dump(mode="json"),
        "settings": asdict(job.settings),
        "prompts": asked_prompts(job.base),
        "versions": {library: version(library) for library in _LIBRARIES_OF_A_STATE},
    }
