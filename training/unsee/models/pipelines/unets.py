"""Models with a UNet: Stable Diffusion's pictures, and the clips of AnimateDiff and ModelScope.

Their autoencoder takes single frames, and their noise is a diffusion's.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unsee.models.pipelines.model import GenerativeModel, OnStep, Sampling, drawn
from unsee.models.pipelines.noise import NoiseProcess, diffusion_by_betas
from unsee.models.pipelines.unet_fits import check_unet


class StableDiffusion(GenerativeModel):
    """`StableDiffusionPipeline`: pictures in the UNet's own size; latents [N, C, h, w]."""

    pipeline_name = "StableDiffusionPipeline"
    denoiser_name = "unet"
    makes_images = True

    @property
    def picture_size(self) -> tuple[int, int]:
        """(height, width) in pixels by the UNet's `sample_size`."""
        size = self.parts.denoiser.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        factor = 2 ** (len(self.parts.vae.config.block_out_channels) - 1)
        return height * factor, width * factor

    @property
    def process(self) -> NoiseProcess:
        """A diffusion with the scheduler's betas."""
        return diffusion_by_betas(self.parts.scheduler, self.parts.scheduler_file)

    def latents(self, pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Scaled by the autoencoder's `scaling_factor`."""
        vae = self.parts.vae
        return drawn(vae, pixels, generator) * float(vae.config.scaling_factor)

    def predict(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, prompt_embeds: torch.Tensor
    ) -> torch.Tensor:
        """The UNet computes in its own dtype."""
        unet = self.parts.denoiser
        prediction: torch.Tensor = unet(
            noisy.to(unet.dtype), timesteps, prompt_embeds.to(unet.dtype)
        ).sample
        return prediction.float()

    def check(self, where: object, text_width: int) -> None:
        """See `GenerativeModel.check`; an image model also has to say its size."""
        unet, vae = self.parts.denoiser.config, self.parts.vae.config
        check_unet(where, unet, vae, text_width, is_image=self.makes_images)

    def options(
        self, sampling: Sampling, prompt_embeds: torch.Tensor, negative: torch.Tensor
    ) -> Mapping[str, Any]:
        """Nothing more."""
        return {}

    def frames(self, output: Any) -> NDArray[np.float32]:
        """Each image is one frame."""
        return np.asarray(output.images)[:, None]

    def components(self) -> dict[str, Any]:
        """Without what filters the images."""
        return super().components() | {
            "safety_checker": None,
            "feature_extractor": None,
            "requires_safety_checker": False,
        }


class _VideoUNet(StableDiffusion):
    """A UNet of clips, whose latents are [N, C, F, h, w]; its pipeline is like that of others."""

    makes_images = False
    options = GenerativeModel.options
    frames = GenerativeModel.frames
    components = GenerativeModel.components
    picture_size = GenerativeModel.picture_size

    def latents(self, pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """One frame."""
        return super().latents(pixels, generator)[:, :, None]


class TextToVideoSD(_VideoUNet):
    """`TextToVideoSDPipeline`, ModelScope's and Zeroscope's."""

    pipeline_name = "TextToVideoSDPipeline"

    def callback(self, on_step: OnStep) -> dict[str, Any]:
        """This pipeline has the older callback."""
        pipeline = self.pipeline

        def after(step: int, timestep: Any, latents: torch.Tensor) -> None:
            on_step(step + 1, len(pipeline.scheduler.timesteps))

        return {"callback": after, "callback_steps": 1}


class AnimateDiff(_VideoUNet):
    """`AnimateDiffPipeline`, whose UNet has the motion adapter in it."""

    pipeline_name = "AnimateDiffPipeline"

    def components(self) -> dict[str, Any]:
        """The adapter is a part of the UNet already."""
        return super().components() | {"motion_adapter": None}
