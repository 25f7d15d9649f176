"""Trains the video UNet on clips, starting from the image UNet; the encoder is frozen."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from unsee.playground.networks.mixed_precision import use_mixed_precision
from unsee.playground.networks.models import inflate, new_scheduler, new_video_unet
from unsee.playground.training.diffusion import captions_for, noisy_batch, token_ids
from unsee.playground.training.loop import StepRandom


class VideoTask:
    """All of the video UNet's weights are trained, spatial ones included."""

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
    ) -> None:
        torch.manual_seed(seed)
        self.unet = new_video_unet()
        self.num_transferred = inflate(image_unet, self.unet)
        self.modules = nn.ModuleDict({"unet": self.unet})
        self.text_encoder = text_encoder.eval().requires_grad_(False)
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
