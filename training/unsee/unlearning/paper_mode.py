"""Paper mode: gradient ascent on the denoising loss, in the text encoder alone.

Source: Liu & Tan, arXiv 2407.14209, with the few-shot method of Fuchi & Takagi, arXiv 2405.07288.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image

from unsee.core.errors import UnlearnDiverged
from unsee.core.policy import Concept
from unsee.core.unlearning_settings import PaperMode
from unsee.deltas.delta import tensor_differences
from unsee.images.denoising import Denoising, load_denoising
from unsee.images.latents import encode_images
from unsee.models.base import Base
from unsee.models.encoders.families import family_of
from unsee.models.work import Work
from unsee.prompts.encoding import encode_ids
from unsee.prompts.templates import training_prompts
from unsee.prompts.tokens import padded_token_ids
from unsee.unlearning.estimate import Estimate, Learned, Progress


def ascend(
    base: Base,
    concept: Concept,
    images: Sequence[Image.Image],
    settings: PaperMode,
    generator: torch.Generator,
    progress: Progress | None,
) -> Learned:
    """Tune a copy of the text encoder; the tensors are dense differences by parameter name.

    Minimises -MSE of the denoiser on `images` under prompts drawn around the concept's names, one
    random timestep and noise per sample. Raises `InputError` if no prompt fits the tokenizer,
    `UnlearnDiverged` if the loss or a weight stops being finite.
    """
    latents = encode_images(base, images, generator)
    text_encoder = copy.deepcopy(base.text_encoder()).eval()
    frozen = load_denoising(base)
    prompt_ids = torch.tensor(padded_token_ids(base, training_prompts(concept)))
    optimizer = _optimizer(text_encoder, settings)
    total = most_work(replace(settings, shots=len(latents))).steps
    losses: list[float] = []
    for batch in _batches(len(latents), settings, generator):
        rows = torch.randint(len(prompt_ids), (len(batch),), generator=generator)
        prompt_embeds = encode_ids(text_encoder, prompt_ids[rows])
        loss = -frozen.loss(*_noised(frozen, latents[batch], generator), prompt_embeds)
        if not torch.isfinite(loss):
            raise _diverged(settings, len(losses) + 1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
        if progress is not None:
            progress(Estimate(len(losses), total, losses[-1]))
    tensors = tensor_differences(text_encoder.state_dict(), base.text_encoder().state_dict())
    _check_finite(tensors, settings)
    return Learned(tensors, tuple(losses), f"all {total} steps of the paper's schedule were taken")


def most_work(settings: PaperMode) -> Work:
    """What `ascend` does with these settings."""
    samples = settings.epochs * settings.shots
    return Work(
        steps=settings.epochs * math.ceil(settings.shots / settings.batch_size),
        denoised=samples,
        encoded=samples,
        denoised_with_gradient=samples,
    )


def _optimizer(text_encoder: Any, settings: PaperMode) -> torch.optim.Adam:
    text_encoder.requires_grad_(False)
    trained = list(family_of(text_encoder).paper_parameters(text_encoder).values())
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
    """The batch's latents with a random noise and level of it for each."""
    noise = torch.randn(latents.shape, generator=generator)
    levels = torch.randint(frozen.process.num_levels, (len(latents),), generator=generator)
    return latents, noise, levels


def _check_finite(tensors: dict[str, torch.Tensor], settings: PaperMode) -> None:
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise _diverged(settings, None)


def _diverged(settings: PaperMode, step: int | None) -> UnlearnDiverged:
    place = f"at step {step}" if step else "after the last step"
    return UnlearnDiverged(
        f"unlearning diverged {place}: a value is not finite; "
        f"use a learning rate below {settings.learning_rate:g} or fewer epochs"
    )
