"""How much a stage sends through a base's models, for an estimate of its time."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """The most that a stage sends through the models.

    Args:
        steps: how often it reports progress.
        denoised: latents through the denoiser; `denoised_with_gradient` of them also backward.
        encoded: prompts through the text encoder.
    """

    steps: int
    denoised: int
    encoded: int
    denoised_with_gradient: int = 0
