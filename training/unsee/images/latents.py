"""Images as the denoiser sees them: latents of the base's autoencoder."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageOps

from unsee.models.base import Base
from unsee.models.generative import open_model


def encode_images(
    base: Base, images: Sequence[Image.Image], generator: torch.Generator
) -> torch.Tensor:
    """Latents [N, C, h, w], or [N, C, F, h, w] of a video model, float32, one draw per image.

    They lie where the autoencoder does; one image is encoded at a time.
    """
    model = open_model(base, "image")
    height, width = model.picture_size
    return torch.cat([model.latents(_pixels(one, (width, height)), generator) for one in images])


def _pixels(image: Image.Image, size: tuple[int, int]) -> torch.Tensor:
    """[1, 3, H, W] float32 in [-1, 1], cropped about the centre to `size`, (width, height)."""
    fitted = ImageOps.fit(image.convert("RGB"), size, Image.Resampling.LANCZOS)
    array = np.asarray(fitted, dtype=np.float32) / 127.5 - 1.0
    return torch.from_numpy(array).permute(2, 0, 1)[None]
