"""One concept from name to delta folder: images, unlearning, saving, and when there is no need.

Knows the order of the stages; does not know how any of them works or how progress is shown.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from unsee.client.errors import InputError
from unsee.client.policy import Concept
from unsee.training.base import Base
from unsee.training.delta import Delta
from unsee.training.delta_folder import check_writable, load_card, load_delta, save_delta
from unsee.training.digest import images_digest
from unsee.training.few_shot import few_shot_prompts, generate_few_shot_images
from unsee.training.image_folder import load_images
from unsee.training.settings import PaperMode
from unsee.training.unlearn import unlearn

Report = Callable[[int, int, str], None]
StageProgress = Callable[[str], AbstractContextManager[Report]]


@dataclass(frozen=True)
class UnlearnJob:
    """What is to be unlearned from what; `settings.shots` is the number of images.

    With `images_dir` the first `settings.shots` images of that folder are used, else they are
    generated.
    """

    base: Base
    concept: Concept
    settings: PaperMode
    seed: int
    images_dir: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """The delta in `folder`; `reused` says that it lay there already."""

    folder: Path
    delta: Delta
    reused: bool


def run_job(
    job: UnlearnJob, folder: Path, *, force: bool, stage_progress: StageProgress
) -> Outcome:
    """Do the job and save its delta and images as `folder`, or find that it was done before.

    Raises `InputError` if `folder` holds another delta and `force` is not given; what any stage
    raises is passed on, and `folder` is then as it was.
    """
    job.base.check_shared_text_encoder()
    images = _given_images(job)
    if folder.exists() and not force:
        return _found(job, folder, images)
    check_writable(folder, force=force)
    if images is None:
        delta, images = _unlearn_from_generated(job, stage_progress)
    else:
        delta = _unlearn(job, images, stage_progress)
    save_delta(delta, folder, images=images, force=force)
    return Outcome(folder=folder, delta=delta, reused=False)


def _given_images(job: UnlearnJob) -> list[Image.Image] | None:
    if job.images_dir is None:
        return None
    images = load_images(job.images_dir)
    if len(images) < job.settings.shots:
        raise InputError(
            f"{job.images_dir} holds {len(images)} images, {job.settings.shots} were asked for"
        )
    return images[: job.settings.shots]


def _found(job: UnlearnJob, folder: Path, images: list[Image.Image] | None) -> Outcome:
    check_writable(folder, force=True)
    differing = _differences(job, folder, images)
    if differing:
        raise InputError(
            f"{folder} already holds another delta ({', '.join(differing)} differ); "
            "choose another output or add --force"
        )
    return Outcome(folder=folder, delta=load_delta(folder), reused=True)


def _differences(job: UnlearnJob, folder: Path, images: list[Image.Image] | None) -> list[str]:
    expected: dict[str, Any] = {
        "base_digest": job.base.digest(),
        "concept": job.concept,
        "method": job.settings.method,
        "settings": job.settings,
        "seed": job.seed,
        "image_source": "generated" if images is None else "given",
    }
    if images is not None:
        expected["images_digest"] = images_digest(images)
    card = load_card(folder)
    return [name for name, value in expected.items() if getattr(card, name) != value]


def _unlearn_from_generated(
    job: UnlearnJob, stage_progress: StageProgress
) -> tuple[Delta, list[Image.Image]]:
    started = time.perf_counter()
    shots = job.settings.shots
    prompts = few_shot_prompts(job.base, job.concept, shots)
    with stage_progress("few-shot images") as report:
        images = generate_few_shot_images(
            job.base,
            job.concept,
            shots,
            job.seed,
            progress=lambda step, total: report(step, total, ""),
        )
    seconds = {"few_shot_images": round(time.perf_counter() - started, 3)}
    delta = _unlearn(job, images, stage_progress)
    card = delta.card.model_copy(
        update={
            "image_source": "generated",
            "prompts": prompts,
            "seconds": seconds | delta.card.seconds,
        }
    )
    return replace(delta, card=card), images


def _unlearn(job: UnlearnJob, images: list[Image.Image], stage_progress: StageProgress) -> Delta:
    with stage_progress("unlearning") as report:
        return unlearn(
            job.base,
            job.concept,
            images,
            job.settings,
            job.seed,
            progress=lambda step, total, loss: report(step, total, f"loss {loss:.4f}"),
        )
