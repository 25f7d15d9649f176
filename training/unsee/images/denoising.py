"""The denoising loss of a frozen text-to-image model, as a function of the prompt embeddings."""

from dataclasses import dataclass
from typing import Any

import torch

from unsee.core.errors import BaseFolderError
from unsee.models.base import Base
from unsee.models.schedulers import noise_process

_POSITIONS_AT_ONCE = 8192
"""Latent positions in one pass: 2 pictures of 512 pixels a side, or 128 of 64."""


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
        """Mean squared error of the denoiser, a scalar; see `errors`."""
        return self.errors(latents, noise, timesteps, prompt_embeds).mean()

    def errors(
        self,
        latents: torch.Tensor,
        noise: torch.Tensor,
        timesteps: torch.Tensor,
        prompt_embeds: torch.Tensor,
    ) -> torch.Tensor:
        """Mean squared error of each sample, [B] float32.

        `latents` and `noise` are [B, C, h, w] float32, `timesteps` [B] int64, `prompt_embeds`
        [B, L, D] float32. The denoiser computes in its own dtype and sees few samples at a time, so
        that a large batch takes no more memory than one pass. There is a gradient to
        `prompt_embeds` alone.
        """
        errors: torch.Tensor = _Errors.apply(  # type: ignore[no-untyped-call]
            prompt_embeds, self, (latents, noise, timesteps), torch.is_grad_enabled()
        )
        return errors

    def errors_of_one_pass(
        self,
        latents: torch.Tensor,
        noise: torch.Tensor,
        timesteps: torch.Tensor,
        prompt_embeds: torch.Tensor,
    ) -> torch.Tensor:
        """The same as `errors` in a single pass, whose whole graph is kept for the gradient."""
        noisy = self.process.add_noise(latents, noise, timesteps).to(self.unet.dtype)
        prompt_embeds = prompt_embeds.to(self.unet.dtype)
        predicted: torch.Tensor = self.unet(noisy, timesteps, prompt_embeds).sample.float()
        target = self.target(latents, noise, timesteps)
        return (predicted - target).square().flatten(1).mean(1)

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


class _Errors(torch.autograd.Function):
    """`Denoising.errors`: an error depends on its own sample's embeddings alone, so the gradient is
    taken as soon as the sample has passed, and the denoiser's graph is not kept until `backward`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        prompt_embeds: torch.Tensor,
        denoising: Denoising,
        samples: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        is_grad_enabled: bool,
    ) -> torch.Tensor:
        needs_grad = is_grad_enabled and prompt_embeds.requires_grad
        size = max(1, _POSITIONS_AT_ONCE // samples[0][0, 0].numel())
        parts = zip(*(torch.split(each, size) for each in (*samples, prompt_embeds)), strict=True)
        errors, gradients = [], []
        for latents, noise, timesteps, embeds in parts:
            leaf = embeds.detach().requires_grad_(needs_grad)
            with torch.set_grad_enabled(needs_grad):
                found = denoising.errors_of_one_pass(latents, noise, timesteps, leaf)
                if needs_grad:
                    gradients += torch.autograd.grad(found.sum(), leaf)
            errors.append(found.detach())
        if needs_grad:
            ctx.save_for_backward(torch.cat(gradients))
        return torch.cat(errors)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, push: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return push[:, None, None] * gradient, None, None, None


def load_denoising(base: Base) -> Denoising:
    """The base's text-to-image denoiser with its noise schedule as a DDPM process."""
    return Denoising(unet=base.unet(), process=noise_process(base))
