"""Prompt search: a few words before an ordinary prompt that bring the concept back.

Objective: min over tokens of E ||target - denoiser(z_t, t, E_victim(tokens + prompt))||^2 on
pictures of the concept (UnlearnDiffAtk, Zhang et al., arXiv 2310.11868). Search: the gradient with
respect to the one-hot tokens proposes the top-k substitutions of each position, names masked out
(MMA-Diffusion, Yang et al., arXiv 2311.17516), and of a random batch of these the best is kept
(greedy coordinate gradient, Zou et al., arXiv 2307.15043, algorithm 1).
"""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch

from unsee.evaluation.attacks.search_vocabulary import Vocabulary, search_vocabulary
from unsee.evaluation.attacks.victim import Attacked, Progress, Ticker, Victim, cycled, require
from unsee.evaluation.report.schema import Reach
from unsee.images.denoising import Denoising, load_denoising
from unsee.images.latents import encode_images
from unsee.images.trials import Trials, compared_losses, denoising_loss, draw_trials
from unsee.prompts.encoding import (
    SlottedPrompts,
    encode_ids,
    encode_prompts,
    encode_vectors,
    slotted_prompts,
    token_table,
)


@dataclass(frozen=True)
class PromptSearch:
    """`num_tokens` words, common to all prompts, are found in `steps` greedy steps.

    All candidates are compared on one fixed set of `trials` denoising trials of the first
    `carriers` ordinary prompts and their pictures; gradients are taken on fresh ones. The search
    starts from the best of `candidates` random strings and never accepts a worse one.
    """

    name: ClassVar[str] = "prompt-search"
    source: ClassVar[str] = (
        "UnlearnDiffAtk, Zhang et al., arXiv 2310.11868; MMA-Diffusion, Yang et al., "
        "arXiv 2311.17516"
    )
    reach: ClassVar[Reach] = "caller"

    num_tokens: int = 4
    steps: int = 10
    top_k: int = 32
    candidates: int = 24
    trials: int = 8
    carriers: int = 4
    times: int = 1

    def at(self, times: int) -> Self:
        """`times` the steps, and half as many words more for each factor of 4."""
        words = self.num_tokens + self.num_tokens // 2 * round(math.log(times, 4))
        return replace(self, num_tokens=words, steps=self.steps * times, times=times)

    def budget(self) -> str:
        return (
            f"{self.num_tokens} tokens, {self.steps} steps of {self.candidates} candidates from "
            f"the top {self.top_k} of each position, {self.trials} denoising trials each"
        )

    def run(
        self, victim: Victim, num_prompts: int, seed: int, progress: Progress | None = None
    ) -> Attacked:
        require(victim.images, "images", self.name)
        require(victim.concept_prompts, "concept_prompts", self.name)
        search = _search(victim, self, torch.Generator().manual_seed(seed))
        tick = Ticker(progress, self.steps)
        found, loss = search.start()
        for _ in range(self.steps):
            found, loss = search.step(found, loss)
            tick()
        words = search.vocabulary.text(found)
        prompts = tuple(f"{words} {p}" for p in cycled(victim.concept_prompts, num_prompts))
        return Attacked(
            prompt_embeds=encode_prompts(victim.base, victim.text_encoder, prompts),
            negative_prompt_embeds=encode_prompts(victim.base, victim.text_encoder, [""]),
            prompts=prompts,
        )


@dataclass(frozen=True)
class _Search:
    """Greedy coordinate gradient for one victim. Words are given as indices into `vocabulary`."""

    frozen: Denoising
    text_encoder: Any
    carriers: SlottedPrompts
    vocabulary: Vocabulary
    latents: torch.Tensor
    fixed: Trials
    generator: torch.Generator
    budget: PromptSearch

    def start(self) -> tuple[torch.Tensor, float]:
        """The best of some random strings: words [k] int64 and their loss."""
        shape = (self.budget.candidates, self.budget.num_tokens)
        return self._best(self._draw(len(self.vocabulary.words), shape))

    def step(self, words: torch.Tensor, loss: float) -> tuple[torch.Tensor, float]:
        """One substitution, if one of the candidates lowers the loss."""
        proposed, proposed_loss = self._best(self._substitutions(words))
        return (proposed, proposed_loss) if proposed_loss < loss else (words, loss)

    def _substitutions(self, words: torch.Tensor) -> torch.Tensor:
        """Candidates [C, k]: `words` with one position replaced by one of its top-k words."""
        scores = -self._one_hot_gradient(words)
        scores.scatter_(1, words[:, None], -torch.inf)
        top = scores.topk(min(self.budget.top_k, scores.shape[1]), dim=1).indices
        cells = torch.randperm(top.numel(), generator=self.generator)[: self.budget.candidates]
        position = cells % len(words)
        candidates = words.repeat(len(cells), 1)
        candidates[torch.arange(len(cells)), position] = top[position, cells // len(words)]
        return candidates

    def _one_hot_gradient(self, words: torch.Tensor) -> torch.Tensor:
        """dL / d one-hot [k, V]: the gradient of each input vector times every token's row."""
        table = token_table(self.text_encoder)[self.vocabulary.ids]
        vectors = table[words].requires_grad_(True)
        trials = draw_trials(self.frozen, self.latents, self.budget.trials, self.generator)
        prompt_embeds = encode_vectors(self.text_encoder, self.carriers, vectors)
        loss = denoising_loss(self.frozen, trials, prompt_embeds[self._carrier_of(trials)])
        (gradient,) = torch.autograd.grad(loss, vectors)
        return gradient @ table.T

    @torch.no_grad()
    def _best(self, candidates: torch.Tensor) -> tuple[torch.Tensor, float]:
        """The candidate of [C, k] with the lowest loss on the fixed trials, and that loss."""
        ids = self.carriers.filled(self.vocabulary.ids[candidates])
        prompt_embeds = encode_ids(self.text_encoder, ids)[:, self._carrier_of(self.fixed)]
        losses = compared_losses(self.frozen, self.fixed, prompt_embeds).nan_to_num(torch.inf)
        best = int(losses.argmin())
        return candidates[best], float(losses[best])

    def _carrier_of(self, trials: Trials) -> torch.Tensor:
        return trials.pictures % len(self.carriers)

    def _draw(self, high: int, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randint(high, shape, generator=self.generator)


def _search(victim: Victim, budget: PromptSearch, generator: torch.Generator) -> _Search:
    frozen = load_denoising(victim.base)
    carriers = victim.concept_prompts[: budget.carriers]
    latents = encode_images(victim.base, victim.images[: len(carriers)], generator)
    return _Search(
        frozen=frozen,
        text_encoder=victim.text_encoder,
        carriers=slotted_prompts(
            victim.base, [("", prompt) for prompt in carriers], budget.num_tokens
        ),
        vocabulary=search_vocabulary(victim.base, victim.concept),
        latents=latents,
        fixed=draw_trials(frozen, latents, budget.trials, generator),
        generator=generator,
        budget=budget,
    )
