"""The graphs that are exported: what each is called, takes, gives and wraps.

A graph owns its tensors' names, dtypes and dims, the sizes at which it is traced, checked and used,
the tolerances of its parity check and the PyTorch wrapper. It knows neither ONNX nor Triton.
Those of the text encoder and of the policies are in `prompt_graphs`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from unsee.core.errors import NotExportable
from unsee.export.graphs.modules import (
    MotionUNetModule,
    VAEDecoderModule,
    VideoUNetModule,
)
from unsee.export.graphs.sizes import (
    Clip,
    ClipLimits,
    Profile,
    Sizes,
    latent_profile,
    latent_sizes,
    with_batch,
)
from unsee.repository.layout import VAE_DECODER, VIDEO_DENOISER
from unsee.repository.records import GraphPrecision

__all__ = [
    "Clip",
    "ClipLimits",
    "DataType",
    "Graph",
    "GraphPrecision",
    "Profile",
    "Sizes",
    "TensorSpec",
    "Tolerance",
    "VAEDecoderGraph",
    "VideoUNetGraph",
]

DataType = Literal["INT64", "FP32", "UINT8"]

GUIDED_ROWS = 2
"""The negative and the positive prompt."""
_VIDEO_UNETS = {"UNet3DConditionModel": VideoUNetModule, "UNetMotionModel": MotionUNetModule}


@dataclass(frozen=True)
class TensorSpec:
    """A tensor at a graph's border; a dim that is a string is an axis of dynamic size.

    The first dim is the batch `"B"`.
    """

    name: str
    data_type: DataType
    dims: tuple[int | str, ...]


@dataclass(frozen=True)
class Tolerance:
    """The largest difference from PyTorch that a graph may show, in any element at any size.

    In units of `"std"` (the standard deviation of PyTorch's output) or of `"level"` (of 256).
    """

    limit: float
    unit: Literal["std", "level"]


class Graph(Protocol):
    """What the exporter, the parity check and the model configuration need of a graph.

    `tolerances` says in which precisions it can be exported and how exact each must be;
    `multiples` gives the axes whose size must be a multiple, `largest_sizes` those that have an
    end; `traced_sizes` is the size of every axis for the trace, `checked_sizes` those of the
    parity check besides. `clip_sizes` is the size of every axis while a clip is made with guidance,
    `profile` that of any call that the base's limits allow.
    """

    name: ClassVar[str]
    max_batch_size: ClassVar[int]
    tolerances: ClassVar[Mapping[GraphPrecision, Tolerance]]

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def multiples(self) -> Sizes: ...
    @property
    def largest_sizes(self) -> Sizes: ...
    @property
    def traced_sizes(self) -> Sizes: ...
    @property
    def checked_sizes(self) -> tuple[Sizes, ...]: ...
    def clip_sizes(self, clip: Clip) -> Sizes: ...
    def profile(self, clip: Clip, limits: ClipLimits) -> Profile: ...
    def wrap(self, model: Any) -> nn.Module: ...
    def example_inputs(self, sizes: Sizes, seed: int) -> tuple[Tensor, ...]: ...


@dataclass(frozen=True)
class VideoUNetGraph:
    """`sample` FP32 [B, C, F, h, w], `timestep` FP32 [B], `encoder_hidden_states` FP32 [B, L, D]
    -> `noise_pred` FP32 [B, C, F, h, w]; h and w are multiples of `size_multiple` latents.

    `vae_scale` is how many pixels make a latent, `max_frames` the most frames that the model has
    positions for, None if it has no end.
    """

    channels: int
    sequence_length: int
    hidden_size: int
    size_multiple: int
    num_train_timesteps: int
    vae_scale: int
    max_frames: int | None = None

    name: ClassVar[str] = VIDEO_DENOISER
    max_batch_size: ClassVar[int] = 8
    tolerances: ClassVar[Mapping[GraphPrecision, Tolerance]] = {
        "float32": Tolerance(1e-4, "std"),
        "float16": Tolerance(5e-2, "std"),
    }

    @classmethod
    def of(
        cls,
        unet: Any,
        sequence_length: int,
        num_train_timesteps: int,
        vae_scale: int,
    ) -> "VideoUNetGraph":
        """The graph of a `UNet3DConditionModel` or a `UNetMotionModel`.

        Raises `NotExportable` for another class, and for one that takes other channels than it
        gives.
        """
        config = unet.config
        if type(unet).__name__ not in _VIDEO_UNETS:
            raise NotExportable(
                f"the video denoiser is a {type(unet).__name__}; only {' and '.join(_VIDEO_UNETS)} "
                "can be exported (a motion_adapter in base.yaml makes the latter of a "
                "UNet2DConditionModel)"
            )
        if config.in_channels != config.out_channels:
            raise NotExportable(
                f"the video denoiser takes {config.in_channels} channels and gives "
                f"{config.out_channels}; only models that take the latents alone can be exported"
            )
        halvings = len(config.block_out_channels) - 1
        return cls(
            channels=config.in_channels,
            sequence_length=sequence_length,
            hidden_size=config.cross_attention_dim,
            size_multiple=2**halvings,
            num_train_timesteps=num_train_timesteps,
            vae_scale=vae_scale,
            max_frames=config.get("motion_max_seq_length"),
        )

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The noisy latents, where in the schedule they are, and the prompt's embeddings."""
        return (
            TensorSpec("sample", "FP32", self._latents),
            TensorSpec("timestep", "FP32", ("B",)),
            TensorSpec(
                "encoder_hidden_states", "FP32", ("B", self.sequence_length, self.hidden_size)
            ),
        )

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The model's prediction, of whatever type its scheduler says."""
        return (TensorSpec("noise_pred", "FP32", self._latents),)

    @property
    def multiples(self) -> Sizes:
        """What the UNet halves must come out even."""
        return {"h": self.size_multiple, "w": self.size_multiple}

    @property
    def largest_sizes(self) -> Sizes:
        """As many frames as a motion adapter has positions for."""
        return {} if self.max_frames is None else {"F": self.max_frames}

    @property
    def traced_sizes(self) -> Sizes:
        """Four different sizes, none of which is 1."""
        return {"B": 2, "F": 3, "h": 2 * self.size_multiple, "w": 3 * self.size_multiple}

    @property
    def checked_sizes(self) -> tuple[Sizes, ...]:
        """The smallest, and one that is larger on other axes than the traced one."""
        multiple = self.size_multiple
        return (
            {"B": 1, "F": 1, "h": multiple, "w": multiple},
            {"B": 1, "F": 5, "h": 4 * multiple, "w": multiple},
        )

    def clip_sizes(self, clip: Clip) -> Sizes:
        """A clip with guidance: two rows. Raises `NotExportable` if its size is no multiple."""
        return {"B": GUIDED_ROWS, **latent_sizes(clip, self.vae_scale, self.size_multiple)}

    def profile(self, clip: Clip, limits: ClipLimits) -> Profile:
        """One row, a clip with guidance, or as many rows as Triton puts into a batch.

        Raises `NotExportable` if the clip's size is no multiple or outside of the limits, or the
        limits allow more frames than the model has positions for.
        """
        if self.max_frames is not None and limits.num_frames > self.max_frames:
            raise NotExportable(
                f"the base allows {limits.num_frames} frames, but its video denoiser has "
                f"positions for {self.max_frames}; lower limits.num_frames in base.yaml"
            )
        latents = latent_profile(clip, limits, self.vae_scale, self.size_multiple)
        return with_batch(latents, GUIDED_ROWS, self.max_batch_size)

    def wrap(self, model: Any) -> nn.Module:
        """A module with this graph's signature."""
        return _VIDEO_UNETS[type(model).__name__](model).eval()

    def example_inputs(self, sizes: Sizes, seed: int) -> tuple[Tensor, ...]:
        """Normal latents and embeddings, timesteps anywhere in the schedule."""
        drawn = generator(seed)
        return (
            torch.randn(sized(self._latents, sizes), generator=drawn),
            torch.rand(sizes["B"], generator=drawn) * (self.num_train_timesteps - 1),
            torch.randn(sizes["B"], self.sequence_length, self.hidden_size, generator=drawn),
        )

    @property
    def _latents(self) -> tuple[int | str, ...]:
        return ("B", self.channels, "F", "h", "w")


@dataclass(frozen=True)
class VAEDecoderGraph:
    """`latents` FP32 [B, C, F, h, w] -> `frames` UINT8 [B, F, scale*h, scale*w, 3].

    Undoes the latents' scaling, clamps, rounds to 256 levels and puts the colours last.
    """

    channels: int
    scale: int

    name: ClassVar[str] = VAE_DECODER
    max_batch_size: ClassVar[int] = 4
    tolerances: ClassVar[Mapping[GraphPrecision, Tolerance]] = {
        "float32": Tolerance(1.0, "level"),
        "float16": Tolerance(4.0, "level"),
    }

    @classmethod
    def of(cls, vae: Any) -> "VAEDecoderGraph":
        """The graph of an `AutoencoderKL`. Raises `NotExportable` if it does not make RGB."""
        if vae.config.out_channels != 3:
            raise NotExportable(
                f"the VAE makes {vae.config.out_channels} channels; frames have 3 (red, green, "
                "blue)"
            )
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

    @property
    def multiples(self) -> Sizes:
        """Any size will do."""
        return {}

    @property
    def largest_sizes(self) -> Sizes:
        """No axis has an end of its own."""
        return {}

    @property
    def traced_sizes(self) -> Sizes:
        """Four different sizes, none of which is 1."""
        return {"B": 2, "F": 3, "h": 4, "w": 5}

    @property
    def checked_sizes(self) -> tuple[Sizes, ...]:
        """One frame, and more frames of another shape."""
        return {"B": 1, "F": 1, "h": 2, "w": 2}, {"B": 1, "F": 4, "h": 8, "w": 3}

    def clip_sizes(self, clip: Clip) -> Sizes:
        """One clip. Raises `NotExportable` if its size is no multiple of `scale`."""
        return {"B": 1, **latent_sizes(clip, self.scale, 1)}

    def profile(self, clip: Clip, limits: ClipLimits) -> Profile:
        """One clip, or as many as Triton puts into a batch.

        Raises `NotExportable` if the clip's size is no multiple or outside of the limits.
        """
        return with_batch(latent_profile(clip, limits, self.scale, 1), 1, self.max_batch_size)

    def wrap(self, model: Any) -> nn.Module:
        """A module with this graph's signature."""
        return VAEDecoderModule(model).eval()

    def example_inputs(self, sizes: Sizes, seed: int) -> tuple[Tensor, ...]:
        """Normal latents [B, C, F, h, w]."""
        shape = sized(self.inputs[0].dims, sizes)
        return (torch.randn(shape, generator=generator(seed)),)


def sized(dims: tuple[int | str, ...], sizes: Sizes) -> tuple[int, ...]:
    """A tensor's shape: `dims` with the size of each axis that is named."""
    return tuple(sizes[dim] if isinstance(dim, str) else dim for dim in dims)


def generator(seed: int) -> torch.Generator:
    """What example inputs are drawn from."""
    return torch.Generator().manual_seed(seed)
