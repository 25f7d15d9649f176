"""Soft prompt: learn input vectors that bring the concept back.

Textual inversion (Gal et al., arXiv 2208.01618, eq. 2) against the tuned encoder, as Pham et al. do
against seven erasures (Circumventing Concept Erasure, arXiv 2308.01508): v* = argmin_v E ||target -
denoiser(z_t, t, E_victim(prompt(v)))||^2 on pictures of the concept, all weights frozen, where
prompt(v) is the picture's own prompt with v in place of the name.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch

from unsee.evaluation.attacks.victim import Attacked, Progress, Ticker, Victim, cycled, require
from unsee.evaluation.report.schema import Reach
from unsee.images.denoising import Denoising, load_denoising
from unsee.images.latents import encode_images
from unsee.images.trials import Trials, compared_losses, denoising_loss, draw_trials
from unsee.prompts.encoding import (
    SlottedPrompts,
    encode_prompts,
    encode_vectors,
    prompt_ids,
    slotted_prompts,
    token_table,
)
from unsee.prompts.naming import Names


@dataclass(frozen=True)
class SoftPrompt:
    """Several short starts, of which the best by held-out denoising loss is learned to the end.

    The first start is the name's own tokens, the second the mean token, the others random tokens.
    `learning_rate` (Adam, cosine to 0) is in units of the token table's root mean square, so it
    fits encoders of any scale. The prompts that are sent are the ordinary ones with the vectors in
    place of the name. Memory is that of one denoising step of `batch_size` latents.

    With `directions` the gradient is that of a smoothed surrogate, E_e L(v + smoothing e) with
    normal e: estimated from losses alone, at so many pairs of points v + s e and v - s e a step
    (see `SmoothedSoftPrompt`). `smoothing` is in the same units as the learning rate.
    """

    name: ClassVar[str] = "soft-prompt"
    source: ClassVar[str] = "Gal et al., arXiv 2208.01618, eq. 2; Pham et al., arXiv 2308.01508"
    reach: ClassVar[Reach] = "weights"

    num_vectors: int = 4
    starts: int = 3
    start_steps: int = 10
    steps: int = 60
    batch_size: int = 8
    learning_rate: float = 0.2
    held_out: int = 32
    times: int = 1
    smoothing: float = 0.0
    directions: int = 0

    def at(self, times: int) -> Self:
        """`times` the steps in all, some of them in more starts, and from 4 times on twice the
        vectors."""
        starts = self.starts * math.isqrt(times)
        usual = self.starts * self.start_steps + self.steps
        return replace(
            self,
            num_vectors=self.num_vectors * min(2, math.isqrt(times)),
            starts=starts,
            steps=times * usual - starts * self.start_steps,
            times=times,
        )

    def budget(self) -> str:
        return (
            f"{self.num_vectors} vectors, {self.starts} starts of {self.start_steps} steps, "
            f"{self.steps} steps from the best, batch {self.batch_size}, "
            f"lr {self.learning_rate:g} x the tokens' RMS"
        )

    def run(
        self, victim: Victim, num_prompts: int, seed: int, progress: Progress | None = None
    ) -> Attacked:
        require(victim.images, "images", self.name)
        require(victim.concept_prompts, "concept_prompts", self.name)
        generator = torch.Generator().manual_seed(seed)
        inversion = _inversion(victim, self, generator)
        tick = Ticker(progress, self.starts * self.start_steps + self.steps)
        starts = _start_vectors(victim, self, generator)
        tried = [inversion.learn(vectors, self.start_steps, tick) for vectors in starts]
        best = inversion.best(tried)
        best = inversion.best([best, inversion.learn(best, self.steps, tick)])
        return _attacked(victim, inversion.prompts, best, num_prompts)


@dataclass(frozen=True)
class SmoothedSoftPrompt(SoftPrompt):
    """A soft prompt that needs no gradient: tried again where the plain one fails.

    An edit may defend itself by hiding its gradients (gates that saturate, steps) instead of
    erasing anything, and then an attack by gradients says nothing (Athalye et al., arXiv
    1802.00420). This one descends a smoothed surrogate by natural evolution strategies (Ilyas et
    al., arXiv 1804.08598, algorithm 1), at `2 * directions` losses a step.
    """

    name: ClassVar[str] = "smoothed-soft-prompt"
    source: ClassVar[str] = "Athalye et al., arXiv 1802.00420; Ilyas et al., arXiv 1804.08598"

    smoothing: float = 0.2
    directions: int = 8

    def budget(self) -> str:
        return (
            f"{super().budget()}, gradients of a surrogate smoothed by {self.smoothing:g} x the "
            f"tokens' RMS from {self.directions} pairs of losses"
        )


@dataclass(frozen=True)
class _Inversion:
    """Eq. 2 for one victim."""

    frozen: Denoising
    text_encoder: Any
    prompts: SlottedPrompts
    latents: torch.Tensor
    held_out: Trials
    generator: torch.Generator
    budget: SoftPrompt

    def learn(self, start: torch.Tensor, steps: int, tick: Ticker) -> torch.Tensor:
        """The vectors [k, d] after `steps` steps of Adam from `start`."""
        vectors = start.clone().requires_grad_(True)
        scale = token_table(self.text_encoder).square().mean().sqrt().item()
        optimizer = torch.optim.Adam([vectors], lr=self.budget.learning_rate * scale)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
        for _ in range(steps):
            trials = draw_trials(self.frozen, self.latents, self.budget.batch_size, self.generator)
            if self.budget.directions:
                vectors.grad = self._smoothed_gradient(vectors, trials, scale)
            else:
                vectors.grad = self._gradient(vectors, trials)
            optimizer.step()
            schedule.step()
            tick()
        return vectors.detach()

    def _gradient(self, vectors: torch.Tensor, trials: Trials) -> torch.Tensor:
        loss = denoising_loss(self.frozen, trials, self._encoded(vectors, trials))
        (gradient,) = torch.autograd.grad(loss, vectors)
        return gradient

    @torch.no_grad()
    def _smoothed_gradient(
        self, vectors: torch.Tensor, trials: Trials, scale: float
    ) -> torch.Tensor:
        """Of the smoothed loss, by antithetic differences; it needs no gradient of the encoder."""
        shape = (self.budget.directions, *vectors.shape)
        noise = torch.randn(shape, generator=self.generator)
        step = self.budget.smoothing * scale
        points = torch.cat([vectors + step * noise, vectors - step * noise])
        encoded = torch.stack([self._encoded(point, trials) for point in points])
        up, down = compared_losses(self.frozen, trials, encoded).chunk(2)
        return ((up - down)[:, None, None] * noise).mean(0) / (2 * step)

    def best(self, tried: list[torch.Tensor]) -> torch.Tensor:
        """The vectors with the lowest loss on noise that none of them was learned on."""
        with torch.no_grad():
            encoded = [self._encoded(vectors, self.held_out) for vectors in tried]
        losses = compared_losses(self.frozen, self.held_out, torch.stack(encoded))
        return tried[int(losses.nan_to_num(torch.inf).argmin())]

    def _encoded(self, vectors: torch.Tensor, trials: Trials) -> torch.Tensor:
        """Embeddings [N, L, D] of the prompts of the trials' pictures, each encoded once."""
        rows = trials.pictures % len(self.prompts)
        used, where = torch.unique(rows, return_inverse=True)
        return encode_vectors(self.text_encoder, self.prompts.rows(used), vectors)[where]


def _inversion(victim: Victim, budget: SoftPrompt, generator: torch.Generator) -> _Inversion:
    frozen = load_denoising(victim.base)
    latents = encode_images(victim.base, victim.images, generator)
    return _Inversion(
        frozen=frozen,
        text_encoder=victim.text_encoder,
        prompts=slotted_prompts(victim.base, _pieces(victim), budget.num_vectors),
        latents=latents,
        held_out=draw_trials(frozen, latents, budget.held_out, generator),
        generator=generator,
        budget=budget,
    )


def _pieces(victim: Victim) -> list[tuple[str, str]]:
    """What stands before and after the vectors in each prompt."""
    names = Names.of(victim.base, victim.concept)
    return [names.around(prompt) for prompt in victim.concept_prompts]


def _start_vectors(
    victim: Victim, budget: SoftPrompt, generator: torch.Generator
) -> list[torch.Tensor]:
    """`starts` times [k, d]: the name's tokens filled up with the mean, the mean, random tokens."""
    table = token_table(victim.text_encoder)
    mean = table.mean(0).expand(budget.num_vectors, -1)
    name = [
        token
        for token in prompt_ids(victim.base, [victim.concept.name])[0].tolist()
        if token not in victim.base.tokenizer().all_special_ids
    ][: budget.num_vectors]
    starts = [torch.cat([table[name], mean[len(name) :]]), mean]
    while len(starts) < budget.starts:
        tokens = torch.randint(len(table), (budget.num_vectors,), generator=generator)
        starts.append(table[tokens])
    return starts[: budget.starts]


def _attacked(
    victim: Victim, prompts: SlottedPrompts, vectors: torch.Tensor, num_prompts: int
) -> Attacked:
    rows = torch.arange(num_prompts) % len(prompts)
    with torch.no_grad():
        prompt_embeds = encode_vectors(victim.text_encoder, prompts.rows(rows), vectors)
    shown = f"<soft {len(vectors)} vectors>"
    texts = [f"{before}{shown} {after.lstrip()}".rstrip() for before, after in _pieces(victim)]
    return Attacked(
        prompt_embeds=prompt_embeds,
        negative_prompt_embeds=encode_prompts(victim.base, victim.text_encoder, [""]),
        prompts=cycled(texts, num_prompts),
    )
