"""Trains Wan's transformer together with its text encoder, by flow matching."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import T5TokenizerFast

from unsee.models.pipelines.wan_padding import count_padding, short_context
from unsee.playground.networks.mixed_precision import use_mixed_precision
from unsee.playground.networks.wan import (
    MAX_TOKENS,
    PADDED_LENGTH,
    SIZES,
    WanSizes,
    new_text_encoder,
    new_transformer,
    noise_levels,
)
from unsee.playground.training.latents import Latents
from unsee.playground.training.loop import StepRandom
from unsee.playground.training.train_denoisers import LabelHeads, captions_for, spread_uniform
from unsee.playground.world.captions import caption, with_varied_case
from unsee.playground.world.languages import ENGLISH, SPANISH
from unsee.playground.world.world import Scene

SPANISH_SHARE = 0.25
LENGTH_STEP = 32  # captions are padded to a multiple of it: few lengths, few compiled kernels


@dataclass(frozen=True)
class Source:
    """Latents float16 [N, C, T, 8, 8] with their labels, and how many of them a step sees.

    Each of the ``count`` captions of a step is used for ``repeats`` draws of noise.
    """

    name: str
    latents: Latents
    labels: npt.NDArray[np.uint8]
    count: int
    repeats: int


def mixed_caption(scene: Scene, rng: np.random.Generator) -> str:
    """A caption in one of the languages, in the case that somebody may type it in."""
    language = SPANISH if rng.uniform() < SPANISH_SHARE else ENGLISH
    return with_varied_case(caption(scene, rng, language), rng)


def encoded_texts(tokenizer: T5TokenizerFast, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, int64 [N, L]."""
    encoded = tokenizer(
        list(texts),
        padding="longest",
        pad_to_multiple_of=LENGTH_STEP,
        truncation=True,
        max_length=MAX_TOKENS,
        return_tensors="pt",
    )
    return encoded.input_ids, encoded.attention_mask


def padded_length(least: int, random: StepRandom) -> int:
    """How long the prompt's states are with their padding: WanPipeline's 512, or any less.

    In every other step 512, else between ``least`` and 512, short ones as often as long ones, so
    that the model may be served without computing all that padding.
    """
    if random.numpy.uniform() < 0.5:
        return PADDED_LENGTH
    return int(least * (PADDED_LENGTH / least) ** random.numpy.uniform())


class FlowTask:
    """The encoder learns labels alone for ``text_only_steps``, then all learns together.

    The model is given (1 - s) latents + s noise at time 1000 s and learns noise - latents
    (arXiv 2210.02747); s is drawn as the scheduler spaces it.
    """

    label_weight = 0.05

    def __init__(
        self,
        name: str,
        sources: Sequence[Source],
        tokenizer: T5TokenizerFast,
        text_only_steps: int,
        sizes: WanSizes = SIZES,
        seed: int = 2,
        mixed: bool = False,
    ) -> None:
        torch.manual_seed(seed)
        self.name, self.seed = name, seed
        self.text_encoder = new_text_encoder(tokenizer, sizes)
        self.transformer = new_transformer(sizes)
        self.heads = LabelHeads(sizes.text_width)
        self.modules = nn.ModuleDict(
            {
                "text_encoder": self.text_encoder,
                "transformer": self.transformer,
                "heads": self.heads,
            }
        )
        if mixed:
            use_mixed_precision(self.modules)
        self.padding = count_padding(self.transformer)
        self.sources, self.tokenizer = sources, tokenizer
        self.text_only_steps = text_only_steps

    def label_loss(self, states: Tensor, mask: Tensor, labels: Tensor, named: Tensor) -> Tensor:
        """Labels read from the mean of each caption's states; empty captions do not count."""
        if not named.any():
            return states.sum() * 0
        weights = mask[..., None].to(states.dtype)
        pooled = (states * weights).sum(dim=1) / weights.sum(dim=1)
        return self.heads.loss(pooled[named].float(), labels[named])

    def flow_loss(
        self, source: Source, chosen: Tensor, context: Tensor, random: StepRandom
    ) -> Tensor:
        picked = source.latents[chosen.numpy()].astype(np.float32)
        latents = torch.from_numpy(picked).repeat(source.repeats, 1, 1, 1, 1)
        noise = torch.randn(latents.shape, generator=random.torch)
        levels = noise_levels(spread_uniform(len(latents), random))
        level = levels.reshape(-1, 1, 1, 1, 1)
        noisy = (1 - level) * latents + level * noise
        predicted = self.transformer(
            noisy, 1000 * levels, context.repeat(source.repeats, 1, 1), return_dict=False
        )[0]
        return F.mse_loss(predicted.float(), noise - latents)

    def loss(self, random: StepRandom, step: int) -> tuple[Tensor, dict[str, float]]:
        chosen = [
            torch.from_numpy(np.sort(random.numpy.integers(len(s.latents), size=s.count)))
            for s in self.sources
        ]
        labels = np.concatenate(
            [s.labels[c.numpy()] for s, c in zip(self.sources, chosen, strict=True)]
        )
        texts = captions_for(labels, random.numpy, write=mixed_caption)
        ids, mask = encoded_texts(self.tokenizer, texts)
        states = self.text_encoder(ids, mask).last_hidden_state
        named = torch.tensor([bool(text) for text in texts])
        wanted = torch.from_numpy(labels.astype(np.int64))
        label_loss = self.label_loss(states, mask, wanted, named)
        metrics = {"labels": label_loss.item()}
        if step < self.text_only_steps:
            return label_loss, metrics
        length = padded_length(ids.shape[1] + 1, random)
        context, self.padding.bias = short_context(states, mask, length)
        total = self.label_weight * label_loss
        parts = torch.split(context, [source.count for source in self.sources])
        for source, rows, part in zip(self.sources, chosen, parts, strict=True):
            flow_loss = self.flow_loss(source, rows, part, random)
            total = total + flow_loss
            metrics[source.name] = flow_loss.item()
        return total, metrics
