"""The concept's pictures as a yardstick: which prompt explains them, and how well.

A fixed bank of noised pictures is denoised under the concept's own prompts, under an anchor's and
under whatever an attacker finds; the errors under the first two are 0 and 1 on the scale.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image

from unsee.core.policy import Concept
from unsee.images.denoising import Denoising, load_denoising
from unsee.images.latents import encode_images
from unsee.images.trials import Trials, draw_trials
from unsee.models.base import Base
from unsee.prompts.encoding import encode_ids
from unsee.prompts.templates import prompts_around
from unsee.prompts.tokens import fitting_prompts
from unsee.unlearning.anchors import ANCHORS, Naming, anchored
from unsee.unlearning.contexts import Contexts, word_ids

NUM_TRIALS = 128
TRIALS_PER_CALL = 16


@dataclass(frozen=True)
class Scale:
    """Per trial of a bank: the denoising errors [N] under the concept's and the anchor's prompt."""

    concept: torch.Tensor
    anchor: torch.Tensor

    @property
    def gap(self) -> float:
        """How much better the concept's prompts explain the pictures, on average."""
        return float((self.anchor - self.concept).mean())

    @property
    def is_clear(self) -> bool:
        """Whether the gap stands out of its own noise, by three standard errors."""
        difference = self.anchor - self.concept
        standard_error = float(difference.std()) / math.sqrt(len(difference))
        return self.gap > 3 * standard_error

    def share(self, errors: torch.Tensor, trials: torch.Tensor) -> torch.Tensor:
        """Where the mean of `errors` [N] of the trials at `trials` [N] lies: 0 concept, 1 anchor.

        The unit is the whole bank's gap, so that few trials do not make it small.
        """
        return (errors - self.concept[trials]).mean() / self.gap


@dataclass(frozen=True)
class Pictures:
    """A bank of noised pictures of a concept, their prompts, and the anchor that was chosen."""

    frozen: Denoising
    bank: Trials
    prompts: tuple[Naming, ...]
    anchor: str
    scale: Scale

    def rows(self, trials: torch.Tensor) -> torch.Tensor:
        """Which prompt [N] belongs to each of the trials at `trials` [N]."""
        return self.bank.pictures[trials] % len(self.prompts)

    def errors(self, trials: torch.Tensor, prompt_embeds: torch.Tensor) -> torch.Tensor:
        """Errors [N] of the trials at `trials` [N] under `prompt_embeds` [N, L, D], with a
        gradient."""
        return self.frozen.errors(
            self.bank.latents[trials],
            self.bank.noise[trials],
            self.bank.levels[trials],
            prompt_embeds,
        )

    @torch.no_grad()
    def share(self, prompt_embeds: torch.Tensor, count: int = NUM_TRIALS) -> float:
        """Where `prompt_embeds` [P, L, D] lie on the scale, over `count` trials of the bank."""
        trials = torch.arange(min(count, NUM_TRIALS))
        return float(self.scale.share(_all_errors(self, trials, prompt_embeds), trials))


def pictures_of(
    base: Base,
    concept: Concept,
    images: Sequence[Image.Image],
    contexts: Contexts,
    anchor: str | None,
    generator: torch.Generator,
) -> Pictures:
    """The yardstick of `images`; image i shows what template i (modulo their number) says.

    Without an `anchor` it is the category's.
    """
    frozen = load_denoising(base)
    latents = encode_images(base, images, generator)
    around = fitting_prompts(base, prompts_around(concept.name, concept.category))
    prompts = contexts.named[: min(len(images), len(around))]
    text = ANCHORS[concept.category] if anchor is None else anchor
    bank = draw_trials(frozen, latents, NUM_TRIALS, generator)
    unscaled = Scale(torch.zeros(NUM_TRIALS), torch.ones(NUM_TRIALS))
    pictures = Pictures(frozen, bank, prompts, text, unscaled)
    frame, ids = contexts.frame, word_ids(base, text)
    named = [frame.framed([*naming.before, *naming.name, *naming.after]) for naming in prompts]
    shown = [anchored(naming, ids, frame) for naming in prompts]
    errors = [_prompt_errors(base, pictures, rows) for rows in (named, shown)]
    return replace(pictures, scale=Scale(*errors))


@torch.no_grad()
def _prompt_errors(base: Base, pictures: Pictures, rows: list[list[int]]) -> torch.Tensor:
    prompt_embeds = encode_ids(base.text_encoder(), torch.tensor(rows))
    return _all_errors(pictures, torch.arange(NUM_TRIALS), prompt_embeds)


def _all_errors(
    pictures: Pictures, trials: torch.Tensor, prompt_embeds: torch.Tensor
) -> torch.Tensor:
    chunks = torch.split(trials, TRIALS_PER_CALL)
    return torch.cat(
        [pictures.errors(chunk, prompt_embeds[pictures.rows(chunk)]) for chunk in chunks]
    )
