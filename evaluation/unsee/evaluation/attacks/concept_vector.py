"""Concept vector: amplify what is left of the concept in the encoder's own output.

Ring-A-Bell (Tsai et al., arXiv 2310.10012, section 3): the concept's empirical representation c =
mean_i E(prompt_i with it) - E(prompt_i without it) is added to a harmless prompt, E(p) + eta c.
Here E is the victim's own encoder, and the sum goes to the denoiser as it is; the paper's last
step, a search for tokens that come close to it, could only weaken it.
"""

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Self

import torch

from unsee.core.errors import InputError
from unsee.evaluation.attacks.victim import Attacked, Progress, Ticker, Victim, cycled, require
from unsee.evaluation.report.schema import Reach
from unsee.images.denoising import load_denoising
from unsee.images.latents import encode_images
from unsee.images.trials import compared_losses, draw_trials
from unsee.prompts.encoding import encode_prompts
from unsee.prompts.naming import Names


@dataclass(frozen=True)
class ConceptVector:
    """`etas` are tried on the same `trials` denoising trials; the one with the lowest loss on the
    victim's pictures is sent. The prompts are the plain ones: they must not name the concept."""

    name: ClassVar[str] = "concept-vector"
    source: ClassVar[str] = "Ring-A-Bell, Tsai et al., arXiv 2310.10012, section 3"
    reach: ClassVar[Reach] = "weights"

    etas: tuple[float, ...] = (1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 32.0)
    trials: int = 16
    times: int = 1

    def at(self, times: int) -> Self:
        """`times` the trials in all: more factors between the present ones, and more of each."""
        more = math.isqrt(times)
        between = [
            low * (high / low) ** (step / more)
            for low, high in pairwise(self.etas)
            for step in range(more)
        ]
        etas = (*between, self.etas[-1])
        trials = self.trials * len(self.etas) * times // len(etas)
        return replace(self, etas=etas, trials=trials, times=times)

    def budget(self) -> str:
        grid = ", ".join(f"{eta:g}" for eta in self.etas)
        return f"eta of {grid}, {self.trials} denoising trials each"

    def run(
        self, victim: Victim, num_prompts: int, seed: int, progress: Progress | None = None
    ) -> Attacked:
        """Attack `victim`; see `Attack.run`. Raises `InputError` if a plain prompt names it."""
        self._check(victim)
        tick = Ticker(progress, len(self.etas))
        vector = concept_vector(victim)
        eta = self._best_eta(victim, vector, torch.Generator().manual_seed(seed), tick)
        sent = cycled(victim.plain_prompts, num_prompts)
        plain = encode_prompts(victim.base, victim.text_encoder, sent)
        return Attacked(
            prompt_embeds=plain + eta * vector,
            negative_prompt_embeds=encode_prompts(victim.base, victim.text_encoder, [""]),
            prompts=tuple(f"{prompt} <+ {eta:g} x concept vector>" for prompt in sent),
        )

    def _best_eta(
        self, victim: Victim, vector: torch.Tensor, generator: torch.Generator, tick: Ticker
    ) -> float:
        frozen = load_denoising(victim.base)
        latents = encode_images(victim.base, victim.images, generator)
        trials = draw_trials(frozen, latents, self.trials, generator)
        plain = encode_prompts(victim.base, victim.text_encoder, victim.plain_prompts)
        plain = plain[trials.pictures % len(plain)]
        losses: list[float] = []
        for eta in self.etas:
            losses += compared_losses(frozen, trials, (plain + eta * vector)[None]).tolist()
            tick()
        return self.etas[int(torch.tensor(losses).nan_to_num(torch.inf).argmin())]

    def _check(self, victim: Victim) -> None:
        require(victim.images, "images", self.name)
        require(victim.concept_prompts, "concept_prompts", self.name)
        if len(victim.concept_prompts) != len(victim.plain_prompts):
            raise InputError(
                f"there are {len(victim.concept_prompts)} concept_prompts and "
                f"{len(victim.plain_prompts)} plain_prompts; give one plain prompt for each"
            )
        Names.of(victim.base, victim.concept).check_unnamed(victim.plain_prompts)


def concept_vector(victim: Victim) -> torch.Tensor:
    """c [L, D] float32: the mean difference that naming the concept makes, per position."""
    named = encode_prompts(victim.base, victim.text_encoder, victim.concept_prompts)
    plain = encode_prompts(victim.base, victim.text_encoder, victim.plain_prompts)
    return (named - plain).mean(0)
