"""Trains the image UNet with the text encoder on stills, then the video UNet on clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from unsee.playground.networks.mixed_precision import use_mixed_precision
from unsee.playground.networks.models import (
    TEXT_WIDTH,
    inflate,
    new_image_unet,
    new_scheduler,
    new_text_encoder_for,
    new_video_unet,
)
from unsee.playground.training.loop import StepRandom
from unsee.playground.world.captions import caption
from unsee.playground.world.dataset import scene_of
from unsee.playground.world.world import HEADS, LABELS, Scene

CAPTION_DROPOUT = 0.1


def captions_for(
    labels: npt.NDArray[np.uint8],
    rng: np.random.Generator,
    write: Callable[[Scene, np.random.Generator], str] = caption,
) -> list[str]:
    """A fresh caption for each row of labels; some are empty, for guidance."""
    return ["" if rng.uniform() < CAPTION_DROPOUT else write(scene_of(row), rng) for row in labels]


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


def spread_uniform(count: int, random: StepRandom) -> Tensor:
    """One number from each of ``count`` equal parts of 0..1, in random order."""
    strata = torch.randperm(count, generator=random.torch)
    offsets = torch.rand(count, generator=random.torch)
    return (strata + offsets) / count


def spread_timesteps(count: int, scheduler: DDIMScheduler, random: StepRandom) -> Tensor:
    """One uniform time step from each of ``count`` equal strata, in random order."""
    steps = spread_uniform(count, random) * scheduler.config.num_train_timesteps
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


class LabelHeads(nn.Module):
    """Reads the scene's labels from the encoder's pooled output; thrown away afterwards."""

    def __init__(self, width: int = TEXT_WIDTH) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({h: nn.Linear(width, len(LABELS[h])) for h in HEADS})

    def loss(self, pooled: Tensor, labels: Tensor) -> Tensor:
        losses = [F.cross_entropy(self.heads[h](pooled), labels[:, i]) for i, h in enumerate(HEADS)]
        return torch.stack(losses).mean()


class ImageTask:
    """Each caption is encoded once and used for ``repeats`` draws of noise."""

    name = "t2i"
    label_weight = 0.05
    text_only_steps = 150

    def __init__(
        self,
        latents: npt.NDArray[np.float16],
        labels: npt.NDArray[np.uint8],
        tokenizer: CLIPTokenizer,
        batch_size: int = 32,
        repeats: int = 3,
        seed: int = 2,
        mixed: bool = False,
    ) -> None:
        torch.manual_seed(seed)
        self.text_encoder = new_text_encoder_for(tokenizer)
        self.unet, self.heads = new_image_unet(), LabelHeads()
        self.modules = nn.ModuleDict(
            {"text_encoder": self.text_encoder, "unet": self.unet, "heads": self.heads}
        )
        if mixed:
            use_mixed_precision(self.modules)
        self.scheduler = new_scheduler()
        self.tokenizer, self.latents, self.labels = tokenizer, latents, labels
        self.batch_size, self.repeats, self.seed = batch_size, repeats, seed

    def loss(self, random: StepRandom, step: int) -> tuple[Tensor, dict[str, float]]:
        chosen = np.sort(random.numpy.integers(len(self.latents), size=self.batch_size))
        texts = captions_for(self.labels[chosen], random.numpy)
        encoded = self.text_encoder(token_ids(self.tokenizer, texts))
        named = torch.tensor([bool(text) for text in texts])
        labels = torch.from_numpy(self.labels[chosen].astype(np.int64))
        label_loss = self.heads.loss(encoded.pooler_output[named], labels[named])
        if step < self.text_only_steps:
            return label_loss, {"labels": label_loss.item()}
        latents = torch.from_numpy(self.latents[chosen, 0].astype(np.float32))
        noisy, timesteps, target = noisy_batch(
            latents.repeat(self.repeats, 1, 1, 1), self.scheduler, random
        )
        context = encoded.last_hidden_state.repeat(self.repeats, 1, 1)
        predicted = self.unet(noisy, timesteps, context).sample
        denoising = F.mse_loss(predicted, target)
        loss = denoising + self.label_weight * label_loss
        return loss, {"mse": denoising.item(), "labels": label_loss.item()}


class VideoTask:
    """All of the video UNet's weights are trained, spatial ones included; it starts from the image
    UNet, and the text encoder is frozen."""

    name = "t2v"

    def __init__(
        self,
        latents: npt.NDArray[np.float16],
        labels: npt.NDArray[np.uint8],
        tokenizer: CLIPTokenizer,
        text_encoder: CLIPTextModel,
        image_unet: UNet2DConditionModel,
        batch_size: int = 8,
        seed: int = 3,
        mixed: bool = False,
    ) -> None:
        torch.manual_seed(seed)
        self.unet = new_video_unet()
        self.num_transferred = inflate(image_unet, self.unet)
        self.modules = nn.ModuleDict({"unet": self.unet})
        self.text_encoder = text_encoder.eval().requires_grad_(False)
        if mixed:
            use_mixed_precision(self.modules)
            use_mixed_precision(self.text_encoder)
        self.scheduler = new_scheduler()
        self.tokenizer, self.latents, self.labels = tokenizer, latents, labels
        self.batch_size, self.seed = batch_size, seed

    def loss(self, random: StepRandom, step: int) -> tuple[Tensor, dict[str, float]]:
        torch.manual_seed(int(random.numpy.integers(2**31)))  # the temporal layers' dropout
        chosen = np.sort(random.numpy.integers(len(self.latents), size=self.batch_size))
        texts = captions_for(self.labels[chosen], random.numpy)
        with torch.no_grad():
            context = self.text_encoder(token_ids(self.tokenizer, texts)).last_hidden_state
        clips = torch.from_numpy(self.latents[chosen].astype(np.float32)).transpose(1, 2)
        noisy, timesteps, target = noisy_batch(clips.contiguous(), self.scheduler, random)
        loss = F.mse_loss(self.unet(noisy, timesteps, context).sample, target)
        return loss, {}
