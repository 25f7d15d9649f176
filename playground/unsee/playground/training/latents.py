"""The cached latents of a data set, float16: encoded once, in pieces that outlive a kill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL
from rich.progress import track

from unsee.core.files import new_file
from unsee.playground.training.train_autoencoder import to_unit_range
from unsee.playground.world.dataset import Dataset

BATCH = 64
FRAMES_PER_PIECE = 8192
Latents = npt.NDArray[np.float16]
EncodeItems = Callable[[npt.NDArray[np.uint8]], Latents]


@torch.no_grad()
def encode_frames(vae: AutoencoderKL, items: npt.NDArray[np.uint8]) -> Latents:
    """uint8 [N, F, H, W, 3] -> float16 [N, F, C, 8, 8]: the posterior's mean of each frame."""
    frames = torch.from_numpy(items.reshape(-1, *items.shape[2:]).copy())
    chunks = torch.split(to_unit_range(frames), BATCH)
    means = torch.cat([vae.encode(chunk).latent_dist.mean for chunk in chunks])
    latents: Latents = means.half().numpy()
    return latents.reshape(*items.shape[:2], *latents.shape[1:])


def cached_latents(dataset: Dataset, folder: Path, encode: EncodeItems) -> Latents:
    """The latents in ``folder``, encoding first what is not there yet: one row for each item."""
    folder.mkdir(parents=True, exist_ok=True)
    count, num_frames = dataset.frames.shape[:2]
    step = max(1, FRAMES_PER_PIECE // num_frames)
    files = {start: folder / f"{start:06d}.npy" for start in range(0, count, step)}
    missing = [start for start, file in files.items() if not file.exists()]
    if missing:
        for start in track(missing, f"encoding {folder.name}"):
            with new_file(files[start]) as partial:
                np.save(partial, encode(dataset.frames[start : start + step]), allow_pickle=False)
    return np.concatenate([np.load(file, allow_pickle=False) for file in files.values()])
