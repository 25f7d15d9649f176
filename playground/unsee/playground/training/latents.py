"""The cached latents of a data set: float16 [N, F, 8, 8, 8], normalised, as ``.npy``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL

from unsee.core.files import new_file
from unsee.playground.networks.mixed_precision import use_mixed_precision
from unsee.playground.networks.models import LATENT_CHANNELS, LATENT_SIZE
from unsee.playground.training.train_autoencoder import to_unit_range
from unsee.playground.world.dataset import Dataset

BATCH = 64


@torch.no_grad()
def encode_frames(vae: AutoencoderKL, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
    """uint8 [N, H, W, 3] -> float16 [N, 8, 8, 8]: the posterior's mean."""
    images = to_unit_range(torch.from_numpy(frames.copy()))
    latents: npt.NDArray[np.float16] = vae.encode(images).latent_dist.mean.half().numpy()
    return latents


def cached_latents(vae: AutoencoderKL, dataset: Dataset, file: Path) -> npt.NDArray[np.float16]:
    """Opens the latents in ``file``, encoding the data set first if there are none."""
    if not file.exists():
        use_mixed_precision(vae)
        vae.eval().to(memory_format=torch.channels_last)
        count, num_frames = dataset.frames.shape[:2]
        frames = dataset.frames.reshape(count * num_frames, *dataset.frames.shape[2:])
        starts = range(0, len(frames), BATCH)
        encoded = np.concatenate([encode_frames(vae, frames[i : i + BATCH]) for i in starts])
        shape = (count, num_frames, LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE)
        file.parent.mkdir(parents=True, exist_ok=True)
        with new_file(file) as partial:
            np.save(partial, encoded.reshape(shape), allow_pickle=False)
    latents: npt.NDArray[np.float16] = np.load(file, mmap_mode="r", allow_pickle=False)
    return latents
