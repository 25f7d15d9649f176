"""The graphs of the video model's autoencoder, from latents to frames.

An autoencoder of single frames is one graph. A causal one goes through a clip latent frame by
latent frame, and each of its convolutions looks at the two frames before: those are what one call
leaves for the next, so it is two graphs, of the first latent frame and of any later one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from unsee.core.errors import NotExportable
from unsee.export.graphs.causal_decoder import (
    FirstFrameModule,
    NextFramesModule,
    cached_values,
)
from unsee.export.graphs.graphs import TensorSpec, Tolerance, generator, sized
from unsee.export.graphs.modules import VAEDecoderModule
from unsee.export.graphs.sizes import (
    LatentGrid,
    Profile,
    Sizes,
    latent_profile,
    latent_sizes,
    with_batch,
)
from unsee.models.spec import ClipDefaults, Limits
from unsee.repository.layout import VAE_DECODER, VAE_DECODER_NEXT
from unsee.repository.records import GraphPrecision

IN_LEVELS: Mapping[GraphPrecision, Tolerance] = {
    "float32": Tolerance(1.0, "level"),
    "float16": Tolerance(4.0, "level"),
}


@dataclass(frozen=True)
class DecoderGraph:
    """What the graphs of autoencoders have in common: `channels` of latents, `scale` pixels each.

    Each undoes the latents' scaling, clamps, rounds to 256 levels and puts the colours last.
    """

    channels: int
    scale: int

    max_batch_size: ClassVar[int] = 4
    tolerances: ClassVar[Mapping[GraphPrecision, Tolerance]] = IN_LEVELS
    multiples: ClassVar[Sizes] = {}
    largest_sizes: ClassVar[Sizes] = {}


@dataclass(frozen=True)
class VAEDecoderGraph(DecoderGraph):
    """`latents` FP32 [B, C, F, h, w] -> `frames` UINT8 [B, F, scale*h, scale*w, 3]."""

    name: ClassVar[str] = VAE_DECODER
    frames_per_latent: ClassVar[int] = 1
    traced_sizes: ClassVar[Sizes] = {"B": 2, "F": 3, "h": 4, "w": 5}
    checked_sizes: ClassVar[tuple[Sizes, ...]] = (
        {"B": 1, "F": 1, "h": 2, "w": 2},
        {"B": 1, "F": 4, "h": 8, "w": 3},
    )

    @classmethod
    def of(cls, vae: Any) -> "VAEDecoderGraph":
        """The graph of an `AutoencoderKL`. Raises `NotExportable` if it does not make RGB."""
        _check_colours(vae)
        halvings = len(vae.config.block_out_channels) - 1
        return cls(channels=vae.config.latent_channels, scale=2**halvings)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Latents as the sampler leaves them."""
        return (TensorSpec("latents", "FP32", ("B", self.channels, "F", "h", "w")),)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Pixels; H and W follow from h and w."""
        return (TensorSpec("frames", "UINT8", ("B", "F", "H", "W", 3)),)

    def clip_sizes(self, clip: ClipDefaults) -> Sizes:
        """One clip. Raises `NotExportable` if its size is no multiple of `scale`."""
        return {"B": 1, **latent_sizes(clip, LatentGrid(self.scale))}

    def profile(self, clip: ClipDefaults, limits: Limits) -> Profile:
        """One clip, or as many as Triton puts into a batch.

        Raises `NotExportable` if the clip's size is no multiple or outside of the limits.
        """
        latents = latent_profile(clip, limits, LatentGrid(self.scale))
        return with_batch(latents, 1, self.max_batch_size)

    def wrap(self, model: Any) -> nn.Module:
        return VAEDecoderModule(model).eval()

    def example_inputs(self, sizes: Sizes, seed: int) -> tuple[Tensor, ...]:
        """Normal latents [B, C, F, h, w]."""
        shape = sized(self.inputs[0].dims, sizes)
        return (torch.randn(shape, generator=generator(seed)),)


@dataclass(frozen=True)
class FirstFrameGraph(DecoderGraph):
    """`latents` FP32 [B, C, 1, h, w] -> `frames` UINT8 [B, 1, scale*h, scale*w, 3], `next_cache`
    FP32 [B, K, h, w].

    Args:
        frames_per_latent: how many frames a later latent frame makes.
        cached: K, how many numbers a latent leaves for the next frame.
    """

    frames_per_latent: int
    cached: int

    name: ClassVar[str] = VAE_DECODER
    traced_sizes: ClassVar[Sizes] = {"B": 2, "h": 4, "w": 5}
    checked_sizes: ClassVar[tuple[Sizes, ...]] = (
        {"B": 1, "h": 2, "w": 2},
        {"B": 1, "h": 8, "w": 3},
    )

    @classmethod
    def of(cls, vae: Any) -> Self:
        """The graph of an `AutoencoderKLWan`. Raises `NotExportable` if it does not make RGB."""
        _check_colours(vae)
        config = vae.config
        return cls(
            channels=config.z_dim,
            scale=config.scale_factor_spatial,
            frames_per_latent=config.scale_factor_temporal,
            cached=sum(value.numbers for value in cached_values(vae)),
        )

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """One latent frame as the sampler leaves it."""
        return (TensorSpec("latents", "FP32", ("B", self.channels, 1, "h", "w")),)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Pixels, and what the next call needs."""
        return (
            TensorSpec("frames", "UINT8", ("B", self._num_frames, "H", "W", 3)),
            TensorSpec("next_cache", "FP32", ("B", self.cached, "h", "w")),
        )

    def clip_sizes(self, clip: ClipDefaults) -> Sizes:
        """One latent frame. Raises `NotExportable` if the clip does not fill the grid."""
        return {"B": 1, **_of_one_frame(latent_sizes(clip, self._grid))}

    def profile(self, clip: ClipDefaults, limits: Limits) -> Profile:
        """One latent frame, or as many as Triton puts into a batch.

        Raises `NotExportable` if the clip does not fill the grid or is outside of the limits.
        """
        clips = latent_profile(clip, limits, self._grid)
        frame = Profile(
            _of_one_frame(clips.minimum),
            _of_one_frame(clips.optimum),
            _of_one_frame(clips.maximum),
        )
        return with_batch(frame, 1, self.max_batch_size)

    def wrap(self, model: Any) -> nn.Module:
        return FirstFrameModule(model).eval()

    def example_inputs(self, sizes: Sizes, seed: int) -> tuple[Tensor, ...]:
        """Normal numbers for every input."""
        drawn = generator(seed)
        shapes = [sized(tensor.dims, sizes) for tensor in self.inputs]
        return tuple(torch.randn(shape, generator=drawn) for shape in shapes)

    @property
    def _num_frames(self) -> int:
        return 1

    @property
    def _grid(self) -> LatentGrid:
        return LatentGrid(self.scale, frames=self.frames_per_latent)


@dataclass(frozen=True)
class NextFramesGraph(FirstFrameGraph):
    """`latents` FP32 [B, C, 1, h, w], `cache` FP32 [B, K, h, w] -> `frames` UINT8
    [B, frames_per_latent, scale*h, scale*w, 3], `next_cache` FP32 [B, K, h, w].

    `cache` is the `next_cache` of the latent frame before.
    """

    name: ClassVar[str] = VAE_DECODER_NEXT

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """One latent frame, and what the call before has left."""
        cache = TensorSpec("cache", "FP32", ("B", self.cached, "h", "w"))
        return (*super().inputs, cache)

    def wrap(self, model: Any) -> nn.Module:
        return NextFramesModule(model).eval()

    @property
    def _num_frames(self) -> int:
        return self.frames_per_latent


DecoderGraphs = tuple[VAEDecoderGraph] | tuple[FirstFrameGraph, NextFramesGraph]


def decoder_graphs(vae: Any) -> DecoderGraphs:
    """The graphs of an autoencoder, in the order in which a clip needs them.

    Raises `NotExportable` for a class that is not known.
    """
    kind = type(vae).__name__
    if kind == "AutoencoderKL":
        return (VAEDecoderGraph.of(vae),)
    if kind == "AutoencoderKLWan":
        return FirstFrameGraph.of(vae), NextFramesGraph.of(vae)
    raise NotExportable(
        f"the autoencoder is an {kind}; only AutoencoderKL and AutoencoderKLWan can be exported"
    )


def _check_colours(vae: Any) -> None:
    channels = vae.config.out_channels // (vae.config.get("patch_size") or 1) ** 2
    if channels != 3:
        raise NotExportable(f"the VAE makes {channels} channels; frames have 3 (red, green, blue)")


def _of_one_frame(sizes: Sizes) -> Sizes:
    return {axis: size for axis, size in sizes.items() if axis != "F"}
