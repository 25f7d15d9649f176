"""Trains Wan's autoencoder on stills and clips, and normalises its latents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from unsee.playground.networks.wan import SIZES, WanSizes, new_autoencoder
from unsee.playground.networks.wan_training import (
    begin_without_time,
    use_fast_forms,
)
from unsee.playground.training.latents import Latents
from unsee.playground.training.loop import StepRandom
from unsee.playground.training.train_autoencoder import (
    LATENT_NOISE,
    gradient_loss,
    initialise,
)
from unsee.playground.world.dataset import Dataset

ENCODED_AT_ONCE = 136  # frames


@dataclass(frozen=True)
class AutoencoderBatch:
    """What a step sees: at first stills alone, then stills and windows of clips.

    Stills teach the same kernels as clips, for a quarter of the time. After the first frame and the
    next four, all later fours go through the same code with the same kind of memory; so windows
    are nine frames long, and every fourth step has half as many clips in their full length.
    """

    stills_steps: int = 1300
    stills_alone: int = 16
    stills: int = 4
    clips: int = 3
    window: int = 9
    whole_every: int = 4


def to_video(items: npt.NDArray[np.uint8]) -> Tensor:
    """uint8 [N, F, H, W, 3] -> float32 [N, 3, F, H, W] in -1..1."""
    return torch.from_numpy(items.copy()).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


class VideoAutoencoderTask:
    """L1, squared error and gradient loss; the latents are small and bear noise."""

    name = "autoencoder"

    def __init__(
        self,
        stills: Dataset,
        clips: Dataset,
        batch: AutoencoderBatch | None = None,
        sizes: WanSizes = SIZES,
        seed: int = 1,
        mixed: bool = False,
    ) -> None:
        torch.manual_seed(seed)
        self.vae = new_autoencoder(sizes)
        initialise(self.vae)
        begin_without_time(self.vae)
        use_fast_forms(self.vae)
        self.vae.decoder.conv_out.weight.data *= 0.1  # what the decoder clamps has no gradient
        self.modules = nn.ModuleDict({"vae": self.vae})
        self.stills, self.clips, self.seed = stills, clips, seed
        self.batch = batch or AutoencoderBatch()
        self.mixed = mixed

    def videos(self, random: StepRandom, step: int) -> dict[str, Tensor]:
        """Stills [N, 3, 1, H, W] and, later on, clips [N, 3, F, H, W] of this step."""
        alone = step < self.batch.stills_steps
        size = self.batch.stills_alone if alone else self.batch.stills
        stills = random.numpy.integers(len(self.stills.frames), size=size)
        videos = {"stills": to_video(self.stills.frames[stills])}
        if alone:
            return videos
        length, count = self.clips.frames.shape[1], self.batch.clips
        window = self.batch.window
        if step % self.batch.whole_every == 0:
            window, count = length, max(1, count // 2)
        clips = random.numpy.integers(len(self.clips.frames), size=count)
        first = int(random.numpy.integers(length - window + 1))
        frames = self.clips.frames[clips, first : first + window]
        return videos | {"clips": to_video(frames)}

    def reconstructed(self, video: Tensor, random: StepRandom) -> tuple[Tensor, Tensor]:
        """Frames decoded from noisy latents, and the latents."""
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.mixed):
            latents = self.vae.encode(video).latent_dist.mean
            noise = torch.randn(latents.shape, generator=random.torch)
            decoded = self.vae.decode(latents + LATENT_NOISE * noise).sample
        return decoded.float(), latents.float()

    def loss(self, random: StepRandom, step: int) -> tuple[Tensor, dict[str, float]]:
        total = torch.zeros(())
        metrics: dict[str, float] = {}
        for kind, video in self.videos(random, step).items():
            decoded, latents = self.reconstructed(video, random)
            l1, mse = F.l1_loss(decoded, video), F.mse_loss(decoded, video)
            size = latents.square().mean()
            total = total + l1 + mse + 0.3 * gradient_loss(decoded, video) + 2e-3 * size
            metrics |= {f"{kind}_l1": l1.item(), f"{kind}_rms": size.sqrt().item()}
        return total, metrics


@torch.no_grad()
def encode_videos(vae: AutoencoderKLWan, items: npt.NDArray[np.uint8]) -> Tensor:
    """uint8 [N, F, H, W, 3] -> the posterior's mean, float32 [N, C, 1 + (F - 1) / 4, 8, 8]."""
    step = max(1, ENCODED_AT_ONCE // items.shape[1])
    starts = range(0, len(items), step)
    chunks = [to_video(items[start : start + step]) for start in starts]
    return torch.cat([vae.encode(chunk).latent_dist.mean for chunk in chunks])


def encode_normalised(vae: AutoencoderKLWan, items: npt.NDArray[np.uint8]) -> Latents:
    """As `encode_videos`, float16, with the mean and deviation of the configuration taken out."""
    shape = (1, -1, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean).reshape(shape)
    std = torch.tensor(vae.config.latents_std).reshape(shape)
    latents: Latents = ((encode_videos(vae, items) - mean) / std).half().numpy()
    return latents


@torch.no_grad()
def finished_autoencoder(
    weights: dict[str, Tensor],
    stills: npt.NDArray[np.uint8],
    clips: npt.NDArray[np.uint8],
    sizes: WanSizes = SIZES,
) -> AutoencoderKLWan:
    """The trained autoencoder in eval mode, frozen.

    Its posterior has the deviation that it was trained with, and its configuration says the mean
    and deviation of the latents of ``stills`` and ``clips``, uint8 [N, F, H, W, 3], to which
    WanPipeline holds itself.
    """
    vae = new_autoencoder(sizes)
    vae.load_state_dict(weights)
    vae.eval().requires_grad_(False)
    channels = sizes.latent_channels
    vae.quant_conv.weight[channels:] = 0
    vae.quant_conv.bias[channels:] = 2 * torch.tensor(LATENT_NOISE).log()
    encoded = [encode_videos(vae, items).transpose(0, 1).flatten(1) for items in (stills, clips)]
    latents = torch.cat(encoded, dim=1)
    mean, std = latents.mean(dim=1), latents.std(dim=1)
    vae.register_to_config(latents_mean=mean.tolist(), latents_std=std.tolist())
    return vae
