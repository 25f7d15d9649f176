"""Images as the denoiser sees them: scaled latents of the base's autoencoder."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageOps

from unsee.models.base import Base


def encode_images(
    base: Base, images: Sequence[Image.Image], generator: torch.Generator
) -> torch.Tensor:
    """Latents [N, C, h, w] float32 of the images as the denoiser sees them, one draw per image.

    They lie where the autoencoder does; one image is encoded at a time.
    """
    vae = base.vae()
    size = _image_size(base)
    with torch.no_grad():
        draws = [
            vae.encode(_pixels(image, size).to(vae.device)).latent_dist.sample(generator=generator)
            for image in images
        ]
    scale = float(vae.config.scaling_factor)
    return torch.cat(draws) * scale


def _image_size(base: Base) -> tuple[int, int]:
    """(width, height) in pixels of the text-to-image model."""
    size = base.unet().config.sample_size
    height, width = (size, size) if isinstance(size, int) else size
    factor = 2 ** (len(base.vae().config.block_out_channels) - 1)
    return width * factor, height * factor


def _pixels(image: Image.Image, size: tuple[int, int]) -> torch.Tensor:
    """[1, 3, H, W] float32 in [-1, 1], cropped about the centre to `size`."""
    fitted = ImageOps.fit(image.convert("RGB"), size, Image.Resampling.LANCZOS)
    array = np.asarray(fitted, dtype=np.float32) / 127.5 - 1.0
    return torch.from_numpy(array).permute(2, 0, 1)[None]
