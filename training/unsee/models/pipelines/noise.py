"""Noise processes: what noise is added to a picture, and what a denoiser should then predict.

A *level* is a whole number below `num_levels`, from little noise to nothing but noise, as the
schedulers of diffusers count their training timesteps.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch

from unsee.core.errors import BaseFolderError
from unsee.models.sampling.options import flow_shift, is_flow_matching


class NoiseProcess(Protocol):
    """What a denoiser was trained with; all tensors are float32 but `levels` [B] int64."""

    @property
    def num_levels(self) -> int:
        """How many levels there are."""

    def timesteps(self, levels: torch.Tensor) -> torch.Tensor:
        """What the denoiser is given in place of the levels, [B]."""

    def add_noise(
        self, latents: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor
    ) -> torch.Tensor:
        """The noisy latents."""

    def target(
        self, latents: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor
    ) -> torch.Tensor:
        """What the denoiser should predict."""


@dataclass(frozen=True)
class Diffusion:
    """The process of a scheduler of diffusers that has `add_noise` and `get_velocity`."""

    scheduler: Any

    @property
    def num_levels(self) -> int:
        """The scheduler's training timesteps."""
        return int(self.scheduler.config.num_train_timesteps)

    def timesteps(self, levels: torch.Tensor) -> torch.Tensor:
        """The levels themselves."""
        return levels

    def add_noise(
        self, latents: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor
    ) -> torch.Tensor:
        """The variance-preserving mixture of the scheduler's schedule."""
        noisy: torch.Tensor = self.scheduler.add_noise(latents, noise, levels)
        return noisy

    def target(
        self, latents: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor
    ) -> torch.Tensor:
        """By the scheduler's `prediction_type`. Raises `BaseFolderError` for an unknown one."""
        match self.scheduler.config.prediction_type:
            case "epsilon":
                return noise
            case "v_prediction":
                velocity: torch.Tensor = self.scheduler.get_velocity(latents, noise, levels)
                return velocity
            case "sample":
                return latents
            case other:
                raise BaseFolderError(
                    f"the base's scheduler has the prediction_type {other!r}; "
                    "known are epsilon, v_prediction and sample"
                )


@dataclass(frozen=True)
class FlowMatching:
    """Straight lines from picture to noise: x = (1 - s) picture + s noise, dx/ds predicted.

    Lipman et al., arXiv 2210.02747. The noise levels s are shifted towards 1, as the scheduler
    walks them: shift u / (1 + (shift - 1) u) for equally spaced u (Esser et al., arXiv 2403.03206,
    eq. 23). The denoiser is given s times `num_levels`.
    """

    num_levels: int
    shift: float

    def timesteps(self, levels: torch.Tensor) -> torch.Tensor:
        """s times `num_levels`, float32."""
        return self.num_levels * self._shares(levels)

    def add_noise(
        self, latents: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor
    ) -> torch.Tensor:
        """The point of the line at s."""
        share = self._shares(levels).view(-1, *[1] * (latents.ndim - 1))
        return (1 - share) * latents + share * noise

    def target(
        self, latents: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor
    ) -> torch.Tensor:
        """The line's direction."""
        return noise - latents

    def _shares(self, levels: torch.Tensor) -> torch.Tensor:
        even = (levels.float() + 1) / self.num_levels
        return self.shift * even / (1 + (self.shift - 1) * even)


def diffusion_by_betas(scheduler: Any, where: str) -> Diffusion:
    """The process of any scheduler with betas, as that of a `DDPMScheduler` with the same.

    Raises `BaseFolderError` if it has none; `where` is its file and what names it.
    """
    from diffusers import DDPMScheduler

    if not hasattr(scheduler, "betas"):
        raise BaseFolderError(
            f"the scheduler in {where} is a {type(scheduler).__name__}, which has no betas, and "
            "unlearning adds noise by betas; name the scheduler that the model was trained with "
            "in schedulers of base.yaml"
        )
    return Diffusion(
        DDPMScheduler(
            num_train_timesteps=scheduler.config.num_train_timesteps,
            trained_betas=scheduler.betas.tolist(),
            prediction_type=scheduler.config.get("prediction_type", "epsilon"),
        )
    )


def flow_matching(scheduler: Any, where: str, dynamic_shift: float = 1.0) -> FlowMatching:
    """The process of a flow-matching scheduler.

    `dynamic_shift` is used where the scheduler's config has `use_dynamic_shifting`. Raises
    `BaseFolderError` if the scheduler is none of flow matching.
    """
    config = scheduler.config
    if not is_flow_matching(scheduler):
        raise BaseFolderError(
            f"the scheduler in {where} is a {type(scheduler).__name__} without use_flow_sigmas, "
            "and this model was trained by flow matching; name its scheduler, such as "
            "FlowMatchEulerDiscreteScheduler, in schedulers of base.yaml"
        )
    shift = dynamic_shift if config.get("use_dynamic_shifting") else flow_shift(scheduler)
    return FlowMatching(int(config.num_train_timesteps), shift)
