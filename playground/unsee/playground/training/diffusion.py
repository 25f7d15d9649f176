"""What the image and the video stage share: noise, captions and the training target."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from diffusers import DDIMScheduler
from torch import Tensor
from transformers import CLIPTokenizer

from unsee.playground.training.loop import StepRandom
from unsee.playground.world.captions import caption
from unsee.playground.world.dataset import scene_of

CAPTION_DROPOUT = 0.1


def captions_for(
    labels: npt.NDArray[np.uint8], rng: np.random.Generator, dropout: float = CAPTION_DROPOUT
) -> list[str]:
    """A fresh caption for each row of labels; some are empty, for guidance."""
    return ["" if rng.uniform() < dropout else caption(scene_of(row), rng) for row in labels]


def token_ids(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Tensor:
    """int64 [N, L] padded to the tokenizer's length, as the pipelines do it."""
    encoded = tokenizer(
        list(texts),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    )
    ids: Tensor = encoded.input_ids
    return ids


def spread_timesteps(count: int, scheduler: DDIMScheduler, random: StepRandom) -> Tensor:
    """One uniform time step from each of ``count`` equal strata, in random order."""
    strata = torch.randperm(count, generator=random.torch)
    offsets = torch.rand(count, generator=random.torch)
    steps = (strata + offsets) / count * scheduler.config.num_train_timesteps
    whole: Tensor = steps.long()
    return whole


def noisy_batch(
    latents: Tensor, scheduler: DDIMScheduler, random: StepRandom
) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy latents, time steps and the v target (arXiv 2202.00512, section 4)."""
    noise = torch.randn(latents.shape, generator=random.torch)
    timesteps = spread_timesteps(len(latents), scheduler, random)
    noisy = scheduler.add_noise(latents, noise, timesteps)
    return noisy, timesteps, scheduler.get_velocity(latents, noise, timesteps)
