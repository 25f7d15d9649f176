"""The denoising loss of a frozen text-to-image model, as a function of the prompt embeddings.

Knows the noise process and what the denoiser predicts; does not know what is minimised or how.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from unsee.training.base import Base
from unsee.training.errors import BaseFolderError
from unsee.training.quiet import quiet_libraries


@dataclass(frozen=True)
class Denoising:
    """The frozen half of the loss: the denoiser and the noise process that it was trained with."""

    unet: Any
    process: Any

    def loss(
        self,
        latents: torch.Tensor,
        noise: torch.Tensor,
        timesteps: torch.Tensor,
        prompt_embeds: torch.Tensor,
    ) -> torch.Tensor:
        """Mean squared error of the denoiser, a scalar.

        `latents` and `noise` are [B, C, h, w] float32, `timesteps` [B] int64, `prompt_embeds`
        [B, L, D] float32.
        """
        noisy = self.process.add_noise(latents, noise, timesteps)
        prediction = self.unet(noisy, timesteps, prompt_embeds).sample
        return F.mse_loss(prediction, self.target(latents, noise, timesteps))

    def target(
        self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor:
        """What the denoiser should predict, [B, C, h, w], by the scheduler's `prediction_type`."""
        match self.process.config.prediction_type:
            case "epsilon":
                return noise
            case "v_prediction":
                velocity: torch.Tensor = self.process.get_velocity(latents, noise, timesteps)
                return velocity
            case "sample":
                return latents
            case other:
                raise BaseFolderError(
                    f"the base's scheduler has the prediction_type {other!r}; "
                    "known are epsilon, v_prediction and sample"
                )


def load_denoising(base: Base) -> Denoising:
    """The base's text-to-image denoiser with its noise schedule as a DDPM process."""
    from diffusers import DDPMScheduler

    with quiet_libraries():
        process = DDPMScheduler.from_config(base.t2i_scheduler().config)
    return Denoising(unet=base.unet(), process=process)
