"""Unlearning one concept: from images to a delta, in either mode."""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version

import torch
from PIL import Image

from unsee.core.errors import InputError
from unsee.core.policy import Concept
from unsee.core.unlearning_settings import PaperMode, Settings
from unsee.deltas.delta import Card, Delta
from unsee.models.base import Base
from unsee.models.digest import images_digest, tensors_digest
from unsee.unlearning.anchored_mode import learn_edit
from unsee.unlearning.checkpoint import Checkpoint
from unsee.unlearning.estimate import Learned, Progress
from unsee.unlearning.paper_mode import ascend

_RECORDED_LIBRARIES = ("torch", "transformers", "diffusers", "safetensors")


def unlearn(
    base: Base,
    concept: Concept,
    images: Sequence[Image.Image],
    settings: Settings,
    seed: int,
    *,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
) -> Delta:
    """Learn to unsee `concept` and return what changes in the base's text encoder.

    On one machine equal arguments give equal tensors; torch's global generator is not used.
    Nothing is written except the checkpoint. The base is not changed.

    Anchored mode is a projection in closed form (least-squares concept erasure, arXiv 2306.03819,
    theorem 4.3, for the directions along which the name moves the states). Paper mode is gradient
    ascent on the denoising loss (arXiv 2407.14209, after arXiv 2405.07288).

    Args:
        base: its text encoder and image model are used.
        concept: name, category and aliases.
        images: RGB pictures of the concept, cropped to the model's size. The card records their
            number as `settings.shots`.
        settings: `AnchoredMode` or `PaperMode`.
        seed: of everything that is drawn.
        progress: called after every step.
        checkpoint: where anchored mode keeps its state, and goes on from what it finds there.
            Paper mode takes a few steps only and ignores it.

    Raises:
        InputError: there are no images where the settings use some, the tokenizer knows nothing of
            a name, or no prompt fits it.
        UnlearnDiverged: paper mode's loss or weights stopped being finite.
    """
    if not images and settings.uses_images:
        raise InputError(f"no images of {concept.name!r} to unlearn from; at least 1 is needed")
    images = images if settings.uses_images else ()
    started = time.perf_counter()
    generator = torch.Generator().manual_seed(seed)
    learned: Learned
    if isinstance(settings, PaperMode):
        learned = ascend(base, concept, images, settings, generator, progress)
    else:
        learned = learn_edit(base, concept, images, settings, generator, progress, checkpoint)
    seconds = {"unlearn": round(time.perf_counter() - started, 3)}
    card = Card(
        base=base.name,
        base_digest=base.digest(),
        rounded_digests=base.rounded_digests(),
        concept=concept,
        method=settings.method,
        settings=replace(settings, shots=len(images)) if images else settings,
        seed=seed,
        image_source="given" if images else "none",
        images_digest=images_digest(images),
        prompts=(),
        losses=learned.losses,
        stopped=learned.stopped,
        erased=learned.erased,
        kept=learned.kept,
        anchor=learned.anchor,
        versions={library: version(library) for library in _RECORDED_LIBRARIES},
        seconds=seconds,
        created_at=datetime.now(UTC),
        tensors_digest=tensors_digest(learned.tensors),
    )
    return Delta(card=card, tensors=learned.tensors)
