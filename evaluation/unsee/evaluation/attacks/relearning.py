"""Benign re-learning: does ordinary fine-tuning on other things bring the concept back?

Suriyakumar et al. (Unstable Unlearning, arXiv 2410.08074) find that fine-tuning an unlearned model
with its ordinary loss on pictures that have nothing to do with the concept revives it. The same is
done here to the text encoder alone, on the parameters that unlearning trains.
"""

import copy
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch

from unsee.evaluation.attacks.victim import Attacked, Progress, Ticker, Victim, cycled, require
from unsee.evaluation.report.schema import Reach
from unsee.images.denoising import load_denoising
from unsee.images.latents import encode_images
from unsee.images.trials import denoising_loss, draw_trials
from unsee.models.encoders.families import family_of
from unsee.prompts.encoding import encode_ids, encode_prompts, prompt_ids
from unsee.prompts.naming import Names


@dataclass(frozen=True)
class BenignRelearning:
    """Adam with a cosine schedule on a copy of the victim's encoder; batches of the unrelated
    pairs at all noise levels. Without a `learning_rate` it takes the steps that unlearning takes
    by default on this base. The ordinary prompts that name the concept are sent."""

    name: ClassVar[str] = "benign-relearning"
    source: ClassVar[str] = "Unstable Unlearning, Suriyakumar et al., arXiv 2410.08074"
    reach: ClassVar[Reach] = "weights"

    steps: int = 32
    batch_size: int = 8
    learning_rate: float | None = None
    times: int = 1

    def at(self, times: int) -> Self:
        """`times` the steps."""
        return replace(self, steps=self.steps * times, times=times)

    def budget(self) -> str:
        rate = "the base's for unlearning" if self.learning_rate is None else self.learning_rate
        return f"{self.steps} steps on unrelated pairs, batch {self.batch_size}, lr {rate}"

    def run(
        self, victim: Victim, num_prompts: int, seed: int, progress: Progress | None = None
    ) -> Attacked:
        """Attack `victim`; see `Attack.run`. Raises `InputError` if an unrelated prompt names the
        concept."""
        require(victim.unrelated, "unrelated", self.name)
        require(victim.concept_prompts, "concept_prompts", self.name)
        Names.of(victim.base, victim.concept).check_unnamed(
            prompt for prompt, _ in victim.unrelated
        )
        relearned = self._relearned(victim, seed, Ticker(progress, self.steps))
        sent = cycled(victim.concept_prompts, num_prompts)
        return Attacked(
            prompt_embeds=encode_prompts(victim.base, relearned, sent),
            negative_prompt_embeds=encode_prompts(victim.base, relearned, [""]),
            prompts=sent,
        )

    def _relearned(self, victim: Victim, seed: int, tick: Ticker) -> Any:
        """A fine-tuned copy of the victim's encoder."""
        generator = torch.Generator().manual_seed(seed)
        frozen = load_denoising(victim.base)
        prompts, images = zip(*victim.unrelated, strict=True)
        latents = encode_images(victim.base, images, generator)
        ids = prompt_ids(victim.base, prompts)
        text_encoder = copy.deepcopy(victim.text_encoder).eval()
        optimizer = self._optimizer(victim, text_encoder)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(self.steps, 1))
        for _ in range(self.steps):
            trials = draw_trials(frozen, latents, self.batch_size, generator, (0.0, 1.0))
            prompt_embeds = encode_ids(text_encoder, ids[trials.pictures])
            loss = denoising_loss(frozen, trials, prompt_embeds)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            tick()
        return text_encoder

    def _optimizer(self, victim: Victim, text_encoder: Any) -> torch.optim.Adam:
        text_encoder.requires_grad_(False)
        trained = list(family_of(text_encoder).paper_parameters(text_encoder).values())
        for parameter in trained:
            parameter.requires_grad_(True)
        recommended = victim.base.spec.unlearn.paper.learning_rate
        return torch.optim.Adam(trained, lr=self.learning_rate or recommended)
