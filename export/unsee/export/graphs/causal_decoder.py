"""Modules that decode one latent frame with an `AutoencoderKLWan` and carry its caches along.

diffusers keeps a list of what each causal convolution saw last, tensors of different sizes, and
decodes a clip in a loop of Python. Here one call decodes one latent frame, and the list goes in and
out as one tensor [B, K, h, w]: each entry [B, C, 2, s*h, s*w] is as many numbers as C*2*s*s maps of
the latents' size, so it is only reshaped. Borders are float32, as in `modules`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unsee.export.graphs.modules import to_levels

CACHED_FRAMES = 2
"""How many frames a convolution over three looks back."""


@dataclass(frozen=True)
class CachedValue:
    """What one convolution keeps: `channels` of frames that are `scale` times the latents' size."""

    channels: int
    scale: int

    @property
    def numbers(self) -> int:
        """How many numbers that is for each latent of a frame."""
        return self.channels * CACHED_FRAMES * self.scale * self.scale


@torch.no_grad()
def cached_values(vae: Any) -> tuple[CachedValue, ...]:
    """What the decoder's convolutions keep, in their order, found by decoding two tiny frames."""
    latents = torch.zeros(1, vae.config.z_dim, 1, 1, 1, dtype=vae.dtype, device=vae.device)
    states = _empty(vae)
    for is_first in (True, False):
        vae.decoder(latents, feat_cache=states, feat_idx=[0], first_chunk=is_first)
    kept = [state for state in states if state is not None]
    return tuple(CachedValue(state.shape[1], state.shape[-1]) for state in kept)


class _CausalDecoderModule(nn.Module):
    latents_mean: Tensor
    latents_std: Tensor

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae
        self.values = cached_values(vae)
        for name in ("latents_mean", "latents_std"):
            numbers = torch.tensor(getattr(vae.config, name)).view(1, -1, 1, 1, 1)
            self.register_buffer(name, numbers, persistent=False)

    def _decoded(self, latents: Tensor, states: list[Any], *, is_first: bool) -> Tensor:
        """Frames uint8 [B, F, H, W, 3]; what the next call needs is in `states` afterwards."""
        latents = (latents * self.latents_std + self.latents_mean).to(self.vae.dtype)
        pixels = self.vae.decoder(
            self.vae.post_quant_conv(latents),
            feat_cache=states,
            feat_idx=[0],
            first_chunk=is_first,
        )
        patch = self.vae.config.patch_size
        if patch is not None:
            pixels = _unpatched(pixels, patch)
        return to_levels(pixels).permute(0, 2, 3, 4, 1)

    def _packed(self, states: Iterable[Tensor], latents: Tensor) -> Tensor:
        batch, _, _, height, width = latents.shape
        maps = [
            state.reshape(batch, value.numbers, height, width)
            for value, state in zip(self.values, states, strict=True)
        ]
        return torch.cat(maps, dim=1).to(torch.float32)


class FirstFrameModule(_CausalDecoderModule):
    """`latents` float32 [B, C, 1, h, w] -> `frames` uint8 [B, 1, H, W, 3], `next_cache` float32
    [B, K, h, w].
    """

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        states = _empty(self.vae)
        frames = self._decoded(latents, states, is_first=True)
        return frames, self._packed(self._filled(states, latents), latents)

    def _filled(self, states: list[Any], latents: Tensor) -> list[Tensor]:
        """The states with the zeros before a clip's first frame, which diffusers leaves out.

        A convolution that doubles the frames has not seen the first one and keeps a word.
        """
        batch, _, _, height, width = latents.shape
        filled = []
        for value, state in zip(self.values, states, strict=False):
            if isinstance(state, Tensor):
                filled.append(nn.functional.pad(state, (0, 0, 0, 0, CACHED_FRAMES - 1, 0)))
            else:
                size = (height * value.scale, width * value.scale)
                shape = (batch, value.channels, CACHED_FRAMES, *size)
                filled.append(latents.new_zeros(shape, dtype=self.vae.dtype))
        return filled


class NextFramesModule(_CausalDecoderModule):
    """`latents` float32 [B, C, 1, h, w], `cache` float32 [B, K, h, w] -> `frames` uint8
    [B, F, H, W, 3], `next_cache` float32 [B, K, h, w].
    """

    def forward(self, latents: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        states = self._unpacked(cache.to(self.vae.dtype))
        frames = self._decoded(latents, states, is_first=False)
        return frames, self._packed(states, latents)

    def _unpacked(self, cache: Tensor) -> list[Any]:
        batch, _, height, width = cache.shape
        maps = torch.split(cache, [value.numbers for value in self.values], dim=1)
        return [
            part.reshape(
                batch, value.channels, CACHED_FRAMES, height * value.scale, width * value.scale
            )
            for value, part in zip(self.values, maps, strict=True)
        ]


def _empty(vae: Any) -> list[Any]:
    """What each module of the decoder keeps before the first frame; most keep nothing ever."""
    return [None for _ in vae.decoder.modules()]


def _unpatched(pixels: Tensor, patch: int) -> Tensor:
    from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

    whole: Tensor = unpatchify(pixels, patch_size=patch)
    return whole
