"""The graph of the video model's denoiser, a UNet or a transformer of diffusers."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from unsee.core.errors import NotExportable
from unsee.export.graphs.graphs import (
    GUIDED_ROWS,
    IN_DEVIATIONS,
    TensorSpec,
    Tolerance,
    generator,
    sized,
)
from unsee.export.graphs.modules import MotionUNetModule, VideoTransformerModule, VideoUNetModule
from unsee.export.graphs.sizes import (
    LatentGrid,
    Profile,
    Sizes,
    latent_profile,
    latent_sizes,
    with_batch,
)
from unsee.models.spec import ClipDefaults, Limits
from unsee.repository.base import prompt_rows
from unsee.repository.layout import VIDEO_DENOISER
from unsee.repository.records import GraphPrecision

_MODULES: Mapping[str, Callable[..., nn.Module]] = {
    "UNet3DConditionModel": VideoUNetModule,
    "UNetMotionModel": MotionUNetModule,
    "WanTransformer3DModel": VideoTransformerModule,
}
_FEW_TOKENS = 7


@dataclass(frozen=True)
class VideoDenoiserGraph:
    """`sample` FP32 [B, C, F, h, w], `timestep` FP32 [B], `encoder_hidden_states` FP32 [B, L, D]
    -> `noise_pred` FP32 [B, C, F, h, w]; h and w are multiples of `size_multiple` latents.

    Args:
        sequence_length: L; the most of it with `any_length`, where the last row of the embeddings
            stands for all rows from there on, which are its equals: zeros behind a prompt.
        vae_scale, frames_per_latent: how many pixels make a latent, and how many frames a latent
            frame.
        most: by axis, how many positions the model has; an axis that is not in it has no end.
    """

    channels: int
    sequence_length: int
    hidden_size: int
    size_multiple: int
    num_train_timesteps: int
    vae_scale: int
    frames_per_latent: int = 1
    most: tuple[tuple[str, int], ...] = ()
    any_length: bool = False

    name: ClassVar[str] = VIDEO_DENOISER
    max_batch_size: ClassVar[int] = 8
    tolerances: ClassVar[Mapping[GraphPrecision, Tolerance]] = IN_DEVIATIONS

    @classmethod
    def of(
        cls,
        denoiser: Any,
        sequence_length: int,
        num_train_timesteps: int,
        vae_scale: int,
        frames_per_latent: int = 1,
    ) -> "VideoDenoiserGraph":
        """The graph of a denoiser of a class that is known.

        Raises `NotExportable` for another class, and for one that takes other channels than it
        gives.
        """
        config, kind = denoiser.config, type(denoiser).__name__
        if kind not in _MODULES:
            raise NotExportable(
                f"the video denoiser is a {kind}; only {', '.join(_MODULES)} can be exported (a "
                "motion_adapter in base.yaml makes a UNetMotionModel of a UNet2DConditionModel)"
            )
        given = config.out_channels or config.in_channels
        if config.in_channels != given:
            raise NotExportable(
                f"the video denoiser takes {config.in_channels} channels and gives {given}; only "
                "models that take the latents alone can be exported"
            )
        return cls(
            channels=config.in_channels,
            sequence_length=sequence_length,
            num_train_timesteps=num_train_timesteps,
            vae_scale=vae_scale,
            frames_per_latent=frames_per_latent,
            **(_of_patches(config) if "patch_size" in config else _of_unet(config)),
        )

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The noisy latents, where in the schedule they are, and the prompt's embeddings."""
        length = "L" if self.any_length else self.sequence_length
        return (
            TensorSpec("sample", "FP32", self._latents),
            TensorSpec("timestep", "FP32", ("B",)),
            TensorSpec("encoder_hidden_states", "FP32", ("B", length, self.hidden_size)),
        )

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The model's prediction, of whatever type its scheduler says."""
        return (TensorSpec("noise_pred", "FP32", self._latents),)

    @property
    def multiples(self) -> Sizes:
        """What the model halves, or cuts into patches, must come out even."""
        return {"h": self.size_multiple, "w": self.size_multiple}

    @property
    def largest_sizes(self) -> Sizes:
        """As many frames, rows and columns as the model has positions for."""
        return dict(self.most)

    @property
    def traced_sizes(self) -> Sizes:
        """Different sizes, none of which is 1."""
        sizes = {"B": 2, "F": 3, "h": 2 * self.size_multiple, "w": 3 * self.size_multiple}
        return self._with_length(sizes, _FEW_TOKENS)

    @property
    def checked_sizes(self) -> tuple[Sizes, ...]:
        """The smallest, and one that is larger on other axes than the traced one."""
        multiple = self.size_multiple
        smallest = {"B": 1, "F": 1, "h": multiple, "w": multiple}
        larger = {"B": 1, "F": 5, "h": 4 * multiple, "w": multiple}
        return self._with_length(smallest, 1), self._with_length(larger, self.sequence_length)

    def clip_sizes(self, clip: ClipDefaults) -> Sizes:
        """A clip with guidance: two rows. Raises `NotExportable` if it does not fill the grid."""
        sizes = {"B": GUIDED_ROWS, **latent_sizes(clip, self._grid)}
        return self._with_length(sizes, self._usual_length)

    def profile(self, clip: ClipDefaults, limits: Limits) -> Profile:
        """One row, a clip with guidance, or as many rows as Triton puts into a batch.

        Raises `NotExportable` if the clip does not fill the grid or is outside of the limits, or
        the limits allow a larger one than the model has positions for.
        """
        latents = latent_profile(clip, limits, self._grid)
        for axis, most in self.most:
            if latents.maximum[axis] > most:
                raise NotExportable(self._beyond(axis, most, limits))
        rows = with_batch(latents, GUIDED_ROWS, self.max_batch_size)
        return Profile(
            self._with_length(rows.minimum, 1),
            self._with_length(rows.optimum, self._usual_length),
            self._with_length(rows.maximum, self.sequence_length),
        )

    def wrap(self, model: Any) -> nn.Module:
        lengths = {"padded_length": self.sequence_length} if self.any_length else {}
        return _MODULES[type(model).__name__](model, **lengths).eval()

    def example_inputs(self, sizes: Sizes, seed: int) -> tuple[Tensor, ...]:
        """Normal latents and embeddings, timesteps anywhere in the schedule."""
        drawn = generator(seed)
        return (
            torch.randn(sized(self._latents, sizes), generator=drawn),
            torch.rand(sizes["B"], generator=drawn) * (self.num_train_timesteps - 1),
            torch.randn(sized(self.inputs[2].dims, sizes), generator=drawn),
        )

    @property
    def _latents(self) -> tuple[int | str, ...]:
        return ("B", self.channels, "F", "h", "w")

    @property
    def _grid(self) -> LatentGrid:
        return LatentGrid(self.vae_scale, self.size_multiple, self.frames_per_latent)

    @property
    def _usual_length(self) -> int:
        """As many rows as a prompt of a few words is given."""
        return prompt_rows(_FEW_TOKENS, self.sequence_length)

    def _with_length(self, sizes: Sizes, length: int) -> Sizes:
        return {**sizes, "L": length} if self.any_length else sizes

    def _beyond(self, axis: str, most: int, limits: Limits) -> str:
        if axis == "F":
            allowed = f"{limits.num_frames} frames"
            most, field = 1 + (most - 1) * self.frames_per_latent, "num_frames"
        else:
            field = {"h": "height", "w": "width"}[axis]
            allowed = f"a {field} of {getattr(limits, field)[1]} pixels"
            most *= self.vae_scale
        return (
            f"the base allows {allowed}, but its video denoiser has positions for {most}; lower "
            f"limits.{field} in base.yaml"
        )


def _of_unet(config: Any) -> dict[str, Any]:
    """What a UNet's configuration says; a motion adapter has positions for so many frames."""
    frames = config.get("motion_max_seq_length")
    return {
        "hidden_size": config.cross_attention_dim,
        "size_multiple": 2 ** (len(config.block_out_channels) - 1),
        "most": () if frames is None else (("F", frames),),
    }


def _of_patches(config: Any) -> dict[str, Any]:
    """What the configuration of a transformer over patches of latents says.

    Raises `NotExportable` if a patch is of several latent frames.
    """
    frames, height, width = config.patch_size
    if frames != 1:
        raise NotExportable(
            f"a patch of the video denoiser has {frames} latent frames (patch_size in its "
            "config.json); only patches of one can be exported"
        )
    positions = config.rope_max_seq_len
    return {
        "hidden_size": config.text_dim,
        "size_multiple": math.lcm(height, width),
        "most": (("F", positions), ("h", positions * height), ("w", positions * width)),
        "any_length": True,
    }
