"""The denoising loss of a frozen model on pictures, as a function of the prompt embeddings."""

from dataclasses import dataclass
from typing import Any

import torch

from unsee.models.base import Base
from unsee.models.generative import open_model
from unsee.models.pipelines.model import GenerativeModel
from unsee.models.pipelines.noise import NoiseProcess

_POSITIONS_AT_ONCE = 8192
"""Latent positions in one pass: 2 pictures of 512 pixels a side, or 128 of 64."""


@dataclass(frozen=True)
class Denoising:
    """The frozen half of the loss: the denoiser and the noise process that it was trained with."""

    model: GenerativeModel
    process: NoiseProcess

    def loss(
        self,
        latents: torch.Tensor,
        noise: torch.Tensor,
        levels: torch.Tensor,
        prompt_embeds: torch.Tensor,
    ) -> torch.Tensor:
        """Mean squared error of the denoiser, a scalar; see `errors`."""
        return self.errors(latents, noise, levels, prompt_embeds).mean()

    def errors(
        self,
        latents: torch.Tensor,
        noise: torch.Tensor,
        levels: torch.Tensor,
        prompt_embeds: torch.Tensor,
    ) -> torch.Tensor:
        """Mean squared error of each sample, [B] float32.

        `latents` and `noise` are [B, C, h, w] or [B, C, F, h, w] float32, `levels` of noise [B]
        int64, `prompt_embeds` [B, L, D] float32. The denoiser computes in its own dtype and sees
        few samples at a time, so that a large batch takes no more memory than one pass. There is a
        gradient to `prompt_embeds` alone.
        """
        errors: torch.Tensor = _Errors.apply(  # type: ignore[no-untyped-call]
            prompt_embeds, self, (latents, noise, levels), torch.is_grad_enabled()
        )
        return errors

    def errors_of_one_pass(
        self,
        latents: torch.Tensor,
        noise: torch.Tensor,
        levels: torch.Tensor,
        prompt_embeds: torch.Tensor,
    ) -> torch.Tensor:
        """The same as `errors` in a single pass, whose whole graph is kept for the gradient."""
        noisy = self.process.add_noise(latents, noise, levels)
        predicted = self.model.predict(noisy, self.process.timesteps(levels), prompt_embeds)
        target = self.process.target(latents, noise, levels)
        return (predicted - target).square().flatten(1).mean(1)


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
        for latents, noise, levels, embeds in parts:
            leaf = embeds.detach().requires_grad_(needs_grad)
            with torch.set_grad_enabled(needs_grad):
                found = denoising.errors_of_one_pass(latents, noise, levels, leaf)
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
    """The denoiser of the base that makes pictures, with its noise process."""
    model = open_model(base, "image")
    return Denoising(model=model, process=model.process)
