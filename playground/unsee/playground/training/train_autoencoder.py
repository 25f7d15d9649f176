"""Trains the autoencoder on single frames and normalises its latents."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from unsee.playground.networks.mixed_precision import use_mixed_precision
from unsee.playground.networks.models import new_autoencoder
from unsee.playground.training.loop import StepRandom
from unsee.playground.world.dataset import Dataset

LATENT_NOISE = 0.1  # the posterior's standard deviation, before normalisation


def to_unit_range(frames: Tensor) -> Tensor:
    """uint8 [N, H, W, 3] -> float32 [N, 3, H, W] in -1..1, channels last in memory."""
    return frames.permute(0, 3, 1, 2).float() / 127.5 - 1


def gradient_loss(a: Tensor, b: Tensor) -> Tensor:
    """L1 between the horizontal and vertical differences: keeps outlines sharp."""
    across = F.l1_loss(a[..., 1:] - a[..., :-1], b[..., 1:] - b[..., :-1])
    down = F.l1_loss(a[..., 1:, :] - a[..., :-1, :], b[..., 1:, :] - b[..., :-1, :])
    return across + down


def initialise(vae: nn.Module) -> None:
    """Signals keep their variance through each convolution; residuals start small."""
    for name, module in vae.named_modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
            if name.endswith("conv2"):
                module.weight.data *= 0.3


class AutoencoderTask:
    """Half of each batch are stills, half frames of clips (they show the actions)."""

    name = "autoencoder"

    def __init__(
        self,
        stills: Dataset,
        clips: Dataset,
        batch_size: int = 16,
        seed: int = 1,
        mixed: bool = False,
    ) -> None:
        torch.manual_seed(seed)
        self.vae = new_autoencoder()
        initialise(self.vae)
        self.vae.to(memory_format=torch.channels_last)
        if mixed:
            use_mixed_precision(self.vae)
        self.modules = nn.ModuleDict({"vae": self.vae})
        self.stills, self.clips = stills, clips
        self.batch_size, self.seed = batch_size, seed

    def batch(self, random: StepRandom) -> Tensor:
        half = self.batch_size // 2
        stills = random.numpy.integers(len(self.stills.frames), size=half)
        clips = random.numpy.integers(len(self.clips.frames), size=half)
        moments = random.numpy.integers(self.clips.frames.shape[1], size=half)
        frames = [self.stills.frames[i, 0] for i in stills]
        frames += [self.clips.frames[i, t] for i, t in zip(clips, moments, strict=True)]
        return to_unit_range(torch.stack([torch.from_numpy(frame.copy()) for frame in frames]))

    def loss(self, random: StepRandom, step: int) -> tuple[Tensor, dict[str, float]]:
        images = self.batch(random)
        latents = self.vae.encode(images).latent_dist.mean
        noise = torch.randn(latents.shape, generator=random.torch)
        decoded = self.vae.decode(latents + LATENT_NOISE * noise).sample
        l1 = F.l1_loss(decoded, images)
        mse = F.mse_loss(decoded, images)
        sharpness = gradient_loss(decoded, images)
        size = latents.square().mean()
        loss = l1 + mse + 0.3 * sharpness + 2e-3 * size
        return loss, {"l1": l1.item(), "mse": mse.item(), "latent_rms": size.sqrt().item()}


@torch.no_grad()
def latent_statistics(vae: AutoencoderKL, images: Tensor) -> tuple[Tensor, Tensor]:
    """Per-channel mean and standard deviation of the latents of images [N, 3, H, W]."""
    chunks = [vae.encode(chunk).latent_dist.mean for chunk in torch.split(images, 64)]
    latents = torch.cat(chunks)
    return latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))


@torch.no_grad()
def fold_normalisation(vae: AutoencoderKL, mean: Tensor, std: Tensor) -> None:
    """Makes latents zero-mean and unit-variance without changing any reconstruction.

    ``quant_conv`` gives (mean, log-variance) and ``post_quant_conv`` reads the latents;
    both are 1x1 convolutions, so an affine map of the latents folds into them exactly.
    """
    quant, post = vae.quant_conv, vae.post_quant_conv
    channels = mean.numel()
    quant.weight[:channels] /= std[:, None, None, None]
    quant.bias[:channels] = (quant.bias[:channels] - mean) / std
    quant.weight[channels:] = 0
    quant.bias[channels:] = 2 * (LATENT_NOISE / std).log()
    post.bias += post.weight[:, :, 0, 0] @ mean
    post.weight *= std[None, :, None, None]
