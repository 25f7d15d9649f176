"""Trains the image UNet and the text encoder together on stills."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTokenizer

from unsee.playground.networks.mixed_precision import use_mixed_precision
from unsee.playground.networks.models import (
    TEXT_WIDTH,
    new_image_unet,
    new_scheduler,
    new_text_encoder_for,
)
from unsee.playground.training.diffusion import captions_for, noisy_batch, token_ids
from unsee.playground.training.loop import StepRandom
from unsee.playground.world.world import HEADS, LABELS


class LabelHeads(nn.Module):
    """Reads the scene's labels from the encoder's pooled output; thrown away afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({h: nn.Linear(TEXT_WIDTH, len(LABELS[h])) for h in HEADS})

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
    ) -> None:
        torch.manual_seed(seed)
        self.text_encoder = new_text_encoder_for(tokenizer)
        self.unet, self.heads = new_image_unet(), LabelHeads()
        self.modules = nn.ModuleDict(
            {"text_encoder": self.text_encoder, "unet": self.unet, "heads": self.heads}
        )
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
