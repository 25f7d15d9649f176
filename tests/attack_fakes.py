"""A world small enough to know what an attack should find, for tests only.

Tokenizer and text encoder are the tiny base's, real `CLIPTextModel`s. The denoiser is analytic: it
paints `picture(prompt_embeds)`, a fixed linear map of the mean embedding: its prediction of v is
the expected one for latents distributed about that picture with unit variance. The autoencoder
averages blocks of pixels. So the denoising loss is the distance between two pictures and a
constant, and a concept is found where the picture of the prompt is the concept's.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

from fakes import write_tiny_base
from unsee.core.policy import Concept
from unsee.evaluation.attacks import Victim
from unsee.models.base import Base, load_base
from unsee.prompts.encoding import encode_prompts
from unsee.prompts.templates import prompts_around
from unsee.unlearning.contexts import contexts_of
from unsee.unlearning.pictures import Pictures, pictures_of

NAME, OTHER, FILLER = "q", "y", "x"
CONCEPT = Concept(name=NAME, category="character")
SHORT = ("{} a", "{} b c", "{} m", "{} k o", "{} s t u", "{} h")
"""Prompts in which the concept's word counts for much."""
NUM_IMAGES = 3
_BLOCK, _SIDE = 8, 8


class Painter(torch.nn.Module):
    """A denoiser, [B, 3, 8, 8] latents, that wants to paint what the prompt embeddings say."""

    map: torch.Tensor
    alphas_cumprod: torch.Tensor

    def __init__(self, hidden_size: int, alphas_cumprod: torch.Tensor) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        picture = torch.randn(hidden_size, 3 * _SIDE**2, generator=generator)
        self.register_buffer("map", picture * 0.5 / hidden_size**0.5)
        self.register_buffer("alphas_cumprod", alphas_cumprod)
        self.config = SimpleNamespace(sample_size=_SIDE)
        self.dtype, self.device = torch.float32, torch.device("cpu")

    def picture(self, prompt_embeds: torch.Tensor) -> torch.Tensor:
        """[B, L, D] -> latents [B, 3, 8, 8]."""
        return (prompt_embeds.mean(1) @ self.map).view(-1, 3, _SIDE, _SIDE)

    def forward(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, prompt_embeds: torch.Tensor
    ) -> Any:
        spread = (1 - self.alphas_cumprod[timesteps]).sqrt().view(-1, 1, 1, 1)
        return SimpleNamespace(sample=-spread * self.picture(prompt_embeds))


class Blocks(torch.nn.Module):
    """An autoencoder whose latents are the mean colours of 8x8 blocks."""

    config = SimpleNamespace(block_out_channels=(8,) * 4, scaling_factor=1.0, shift_factor=None)
    dtype, device = torch.float32, torch.device("cpu")

    def encode(self, pixels: torch.Tensor) -> Any:
        latents = torch.nn.functional.avg_pool2d(pixels, _BLOCK)
        draw = SimpleNamespace(sample=lambda generator: latents)
        return SimpleNamespace(latent_dist=draw)


class World:
    """The base, the concept's pictures, and how much of the concept prompt embeddings show.

    `forms` are its prompts, with the concept's word or the filler in place of `{}`.
    """

    def __init__(self, base: Base, forms: Sequence[str] = SHORT) -> None:
        self.base = base
        self.painter: Any = base.denoiser()
        self.concept_prompts = tuple(form.format(NAME) for form in forms)
        self.plain_prompts = tuple(form.format(FILLER) for form in forms)

    def paint(self, prompt: str) -> Image.Image:
        """The picture that the base's own encoder makes of `prompt`."""
        embeds = encode_prompts(self.base, self.base.text_encoder(), [prompt])
        pixels = (self.painter.picture(embeds)[0].permute(1, 2, 0) + 1) * 127.5
        blocks = np.clip(pixels.numpy().round(), 0, 255).astype(np.uint8)
        return Image.fromarray(blocks.repeat(_BLOCK, 0).repeat(_BLOCK, 1))

    def victim(self, text_encoder: Any) -> Victim:
        return Victim(
            base=self.base,
            text_encoder=text_encoder,
            concept=CONCEPT,
            images=tuple(self.paint(prompt) for prompt in self.concept_prompts),
            unrelated=tuple((prompt, self.paint(prompt)) for prompt in self.plain_prompts),
            concept_prompts=self.concept_prompts,
            plain_prompts=self.plain_prompts,
        )

    def shown(self, prompt_embeds: torch.Tensor) -> float:
        """How near the mean picture is to the concept's: 1 there, 0 as far as plain prompts are."""
        own = self.base.text_encoder()
        named = self._mean_picture(encode_prompts(self.base, own, self.concept_prompts))
        plain = self._mean_picture(encode_prompts(self.base, own, self.plain_prompts))
        missed = self._mean_picture(prompt_embeds) - named
        return float(1 - missed.square().sum() / (plain - named).square().sum())

    def asked(self, text_encoder: Any) -> float:
        """How much ordinary prompts show of it."""
        return self.shown(encode_prompts(self.base, text_encoder, self.concept_prompts))

    def encoder(self) -> Any:
        return copy.deepcopy(self.base.text_encoder())

    def swapped(self) -> Any:
        """An encoder that hides the concept: its word and another change places."""
        return self._with_row(NAME, lambda rows: rows[OTHER], OTHER, lambda rows: rows[NAME])

    def faded(self, left: float) -> Any:
        """An encoder that has only the share `left` of the concept's word."""
        return self._with_row(NAME, lambda rows: left * rows[NAME] + (1 - left) * rows[FILLER])

    def shifted(self) -> Any:
        """An encoder whose last layer is thrown off for every prompt, the concept's too."""
        encoder = self.encoder()
        bias = encoder.encoder.layers[-1].mlp.fc2.bias
        bias.data += torch.randn(bias.shape, generator=torch.Generator().manual_seed(1))
        return encoder

    def mute(self) -> Any:
        """An encoder that says the same whatever it reads: nothing can be found in it."""
        encoder = self.encoder()
        encoder.final_layer_norm.weight.data.zero_()
        return encoder

    def _with_row(self, *changes: Any) -> Any:
        encoder = self.encoder()
        table = encoder.get_input_embeddings().weight.data
        ids = {word: self._word_id(word) for word in (NAME, OTHER, FILLER)}
        rows = {word: table[index].clone() for word, index in ids.items()}
        for word, row in zip(changes[::2], changes[1::2], strict=True):
            table[ids[word]] = row(rows)
        return encoder

    def _word_id(self, word: str) -> int:
        (index,) = self.base.tokenizer()(word, add_special_tokens=False).input_ids
        return int(index)

    def _mean_picture(self, prompt_embeds: torch.Tensor) -> torch.Tensor:
        mean: torch.Tensor = self.painter.picture(prompt_embeds).mean(0)
        return mean


def painted_base(folder: Path) -> Base:
    """A tiny base in `folder` with the analytic denoiser and autoencoder in place of its own."""
    base = load_base(write_tiny_base(folder))
    encoder = base.text_encoder()
    table = encoder.get_input_embeddings().weight.data
    table.mul_(20.0)
    table[encoder.config.eos_token_id] /= 20.0
    painter = Painter(encoder.config.hidden_size, _alphas_cumprod(base))
    base.denoiser(), base.vae()
    loaded = {key: painter if "unet" in str(key) else value for key, value in base._loaded.items()}
    loaded = {key: Blocks() if "vae" in str(key) else value for key, value in loaded.items()}
    base._loaded.update(loaded)
    return base


def painted_pictures(base: Base, anchor: str | None, seed: int = 0) -> Pictures:
    """Of the concept, as the base paints it in `NUM_IMAGES` prompts."""
    world, prompts = World(base), prompts_around(CONCEPT.name, CONCEPT.category)[:NUM_IMAGES]
    images = [world.paint(prompt) for prompt in prompts]
    generator = torch.Generator().manual_seed(seed)
    return pictures_of(base, CONCEPT, images, contexts_of(base, CONCEPT), anchor, generator)


def _alphas_cumprod(base: Base) -> torch.Tensor:
    alphas: torch.Tensor = base.scheduler().alphas_cumprod
    return alphas.clone()
