"""Unlearning in paper mode: gradient ascent on the denoising loss, in the text encoder alone.

Source: Liu & Tan, arXiv 2407.14209, with the few-shot method of Fuchi & Takagi, arXiv 2405.07288.
Knows neither where the images come from nor where the delta goes.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch
from PIL import Image

from unsee.client.errors import InputError
from unsee.client.policy import Concept
from unsee.training.base import Base
from unsee.training.delta import Card, Delta, tensor_differences
from unsee.training.denoising import Denoising, load_denoising
from unsee.training.digest import images_digest, tensors_digest
from unsee.training.errors import UnlearnDiverged
from unsee.training.latents import encode_images
from unsee.training.layers import paper_parameters
from unsee.training.prompts import training_prompts
from unsee.training.settings import PaperMode
from unsee.training.tokens import padded_token_ids

Progress = Callable[[int, int, float], None]
_RECORDED_LIBRARIES = ("torch", "transformers", "diffusers", "safetensors")


def unlearn(
    base: Base,
    concept: Concept,
    images: Sequence[Image.Image],
    settings: PaperMode,
    seed: int,
    progress: Progress | None = None,
) -> Delta:
    """Tune a copy of the base's text encoder away from `concept` and return what changed.

    Minimises -MSE of the denoiser on `images` (RGB, cropped to the model's size) under prompts
    drawn around the concept's names, one random timestep and noise per sample. The card records the
    number of images as `settings.shots`. On one machine equal arguments give equal tensors; torch's
    global generator is not used. `progress(step, total, loss)` is called after every step, with the
    loss that was minimised. Nothing is written.

    Raises `InputError` without images or if no prompt fits the tokenizer, `UnlearnDiverged` if the
    loss or a weight stops being finite.
    """
    if not images:
        raise InputError(f"no images of {concept.name!r} to unlearn from; at least 1 is needed")
    started = time.perf_counter()
    generator = torch.Generator().manual_seed(seed)
    latents = encode_images(base, images, generator)
    encoded = time.perf_counter()
    text_encoder = copy.deepcopy(base.text_encoder()).eval()
    losses = _ascend(base, text_encoder, latents, concept, settings, generator, progress)
    tensors = tensor_differences(text_encoder.state_dict(), base.text_encoder().state_dict())
    _check_finite(tensors, settings)
    seconds = {"encode_images": encoded - started, "tune": time.perf_counter() - encoded}
    card = Card(
        base=base.name,
        base_digest=base.digest(),
        concept=concept,
        method=settings.method,
        settings=replace(settings, shots=len(images)),
        seed=seed,
        image_source="given",
        images_digest=images_digest(images),
        prompts=(),
        losses=tuple(losses),
        versions={library: version(library) for library in _RECORDED_LIBRARIES},
        seconds={stage: round(value, 3) for stage, value in seconds.items()},
        created_at=datetime.now(UTC),
        tensors_digest=tensors_digest(tensors),
    )
    return Delta(card=card, tensors=tensors)


def _ascend(
    base: Base,
    text_encoder: Any,
    latents: torch.Tensor,
    concept: Concept,
    settings: PaperMode,
    generator: torch.Generator,
    progress: Progress | None,
) -> list[float]:
    frozen = load_denoising(base)
    prompt_ids = torch.tensor(padded_token_ids(base, training_prompts(concept)))
    optimizer = _optimizer(text_encoder, settings)
    total = settings.epochs * math.ceil(len(latents) / settings.batch_size)
    losses: list[float] = []
    for batch in _batches(len(latents), settings, generator):
        rows = torch.randint(len(prompt_ids), (len(batch),), generator=generator)
        prompt_embeds = text_encoder(prompt_ids[rows]).last_hidden_state
        loss = -frozen.loss(*_noised(frozen, latents[batch], generator), prompt_embeds)
        if not torch.isfinite(loss):
            raise _diverged(settings, len(losses) + 1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
        if progress is not None:
            progress(len(losses), total, losses[-1])
    return losses


def _optimizer(text_encoder: Any, settings: PaperMode) -> torch.optim.Adam:
    text_encoder.requires_grad_(False)
    trained = list(paper_parameters(text_encoder).values())
    for parameter in trained:
        parameter.requires_grad_(True)
    return torch.optim.Adam(
        trained,
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
    )


def _batches(
    num_images: int, settings: PaperMode, generator: torch.Generator
) -> Iterator[torch.Tensor]:
    for _ in range(settings.epochs):
        order = torch.randperm(num_images, generator=generator)
        yield from torch.split(order, settings.batch_size)


def _noised(
    frozen: Denoising, latents: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The batch's latents with a random noise and timestep for each."""
    noise = torch.randn(latents.shape, generator=generator)
    num_train_timesteps = frozen.process.config.num_train_timesteps
    timesteps = torch.randint(num_train_timesteps, (len(latents),), generator=generator)
    return latents, noise, timesteps


def _check_finite(tensors: dict[str, torch.Tensor], settings: PaperMode) -> None:
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise _diverged(settings, None)


def _diverged(settings: PaperMode, step: int | None) -> UnlearnDiverged:
    place = f"at step {step}" if step else "after the last step"
    return UnlearnDiverged(
        f"unlearning left the finite numbers {place}; "
        f"use a learning rate below {settings.learning_rate:g} or fewer epochs"
    )
