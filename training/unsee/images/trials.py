"""Denoising trials: noised pictures on which the prompts of an attack are compared.

The quantity is that of text-to-image training, E ||target - denoiser(z_t, t, c)||^2 (Rombach et
al., arXiv 2112.10752, eq. 3; Gal et al., arXiv 2208.01618, eq. 1), which Zhang et al. (arXiv
2310.11868) and Pham et al. (arXiv 2308.01508) make an attack's objective. Two prompts are compared
on the same trials, so that their losses differ by the prompt alone.
"""

from dataclasses import dataclass

import torch

from unsee.images.denoising import Denoising

NOISE_WINDOW = (0.2, 1.0)
"""The share of the noise process that attacks look at: text decides little of the fine detail."""


@dataclass(frozen=True)
class Trials:
    """N noised pictures: `latents` and `noise` [N, C, h, w] or [N, C, F, h, w] float32, and their
    `levels` of noise [N] int64.

    `pictures` [N] int64 tells which of the given pictures each trial shows.
    """

    latents: torch.Tensor
    noise: torch.Tensor
    levels: torch.Tensor
    pictures: torch.Tensor

    def __len__(self) -> int:
        return len(self.latents)


def draw_trials(
    frozen: Denoising,
    latents: torch.Tensor,
    count: int,
    generator: torch.Generator,
    noise_window: tuple[float, float] = NOISE_WINDOW,
) -> Trials:
    """Return `count` trials that use the M pictures `latents` [M, C, ...] equally often.

    Levels are stratified: one uniform draw in each of `count` equal parts of `noise_window`,
    shares of the noise process. That leaves the mean of uniform draws and takes most of the
    variance between batches away.
    """
    pictures = torch.randperm(count, generator=generator) % len(latents)
    low, high = noise_window
    share = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    num_levels = frozen.process.num_levels
    levels = ((low + (high - low) * share) * num_levels).long()
    chosen = latents[pictures]
    return Trials(
        latents=chosen,
        noise=torch.randn(chosen.shape, generator=generator),
        levels=levels.clamp(max=num_levels - 1),
        pictures=pictures,
    )


def denoising_loss(frozen: Denoising, trials: Trials, prompt_embeds: torch.Tensor) -> torch.Tensor:
    """The mean loss over `trials` under `prompt_embeds` [N, L, D], a scalar with a gradient."""
    return frozen.loss(trials.latents, trials.noise, trials.levels, prompt_embeds)


@torch.no_grad()
def compared_losses(frozen: Denoising, trials: Trials, prompt_embeds: torch.Tensor) -> torch.Tensor:
    """Each candidate's mean loss over the same trials: [K, N, L, D] -> [K] float32."""
    num_candidates, num_trials = prompt_embeds.shape[:2]
    each = torch.arange(num_trials).repeat(num_candidates)
    errors = frozen.errors(
        trials.latents[each], trials.noise[each], trials.levels[each], prompt_embeds.flatten(0, 1)
    )
    return errors.view(num_candidates, num_trials).mean(1)
