"""`LTXPipeline`: latents packed into tokens, positions that depend on the frame rate, a mask.

The mask of a prompt's padding is kept as rows of zeros in its embeddings, as `WanPipeline` has
them: the denoiser reads nothing there either way.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch

from unsee.models.pipelines.fits import check_clip, check_transformer
from unsee.models.pipelines.model import GenerativeModel, Sampling, drawn
from unsee.models.pipelines.noise import NoiseProcess, flow_matching

_SMALLEST_MULTIPLE = 32
"""Of height and width, whatever the patches."""


class Ltx(GenerativeModel):
    """LTX-Video."""

    pipeline_name = "LTXPipeline"

    @property
    def conditions(self) -> Mapping[str, float]:
        return {"frame_rate": self.parts.fps}

    @property
    def process(self) -> NoiseProcess:
        """Flow matching; a dynamic shift is that of a picture's number of tokens."""
        from diffusers.pipelines.ltx.pipeline_ltx import calculate_shift

        options = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
        config = self.parts.scheduler.config
        chosen = [config[name] for name in options if name in config]
        tokens = math.prod(side // self._pixels_per_token for side in self.picture_size)
        shift = calculate_shift(tokens, *chosen) if len(chosen) == len(options) else 0.0
        return flow_matching(self.parts.scheduler, self.parts.scheduler_file, math.exp(shift))

    def latents(self, pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """One frame, standardised."""
        vae = self.parts.vae
        latents = drawn(vae, pixels[:, :, None], generator)
        normalised: torch.Tensor = self.pipeline._normalize_latents(
            latents, vae.latents_mean, vae.latents_std, vae.config.scaling_factor
        )
        return normalised

    def predict(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, prompt_embeds: torch.Tensor
    ) -> torch.Tensor:
        transformer, pipeline = self.parts.denoiser, self.pipeline
        num_frames, height, width = noisy.shape[2:]
        patches = (transformer.config.patch_size, transformer.config.patch_size_t)
        packed: torch.Tensor = transformer(
            hidden_states=pipeline._pack_latents(noisy, *patches).to(transformer.dtype),
            encoder_hidden_states=prompt_embeds.to(transformer.dtype),
            timestep=timesteps,
            encoder_attention_mask=_mask(prompt_embeds),
            num_frames=num_frames,
            height=height,
            width=width,
            rope_interpolation_scale=(
                pipeline.vae_temporal_compression_ratio / self.parts.fps,
                pipeline.vae_spatial_compression_ratio,
                pipeline.vae_spatial_compression_ratio,
            ),
        ).sample
        whole: torch.Tensor = pipeline._unpack_latents(packed, num_frames, height, width, *patches)
        return whole.float()

    def options(
        self, sampling: Sampling, prompt_embeds: torch.Tensor, negative: torch.Tensor
    ) -> Mapping[str, Any]:
        """The number of frames, their rate, and the masks."""
        return {
            "num_frames": sampling.num_frames,
            "frame_rate": self.parts.fps,
            "prompt_attention_mask": _mask(prompt_embeds),
            "negative_prompt_attention_mask": _mask(negative),
        }

    def check(self, where: object, text_width: int) -> None:
        config, vae = self.parts.denoiser.config, self.parts.vae
        latent_channels = vae.config.latent_channels
        patch = config.patch_size**2 * config.patch_size_t
        channels = (config.in_channels, config.out_channels, latent_channels * patch)
        check_transformer(
            where, {"caption_channels": config.caption_channels}, text_width, channels
        )
        multiple = max(self._pixels_per_token, _SMALLEST_MULTIPLE)
        check_clip(where, self.parts, multiple, vae.temporal_compression_ratio)

    @property
    def _pixels_per_token(self) -> int:
        ratio, patch = self.parts.vae.spatial_compression_ratio, self.parts.denoiser.config
        return int(ratio * patch.patch_size)


def _mask(prompt_embeds: torch.Tensor) -> torch.Tensor:
    """True where a row of the embeddings [N, L, D] is not zero: [N, L]."""
    return (prompt_embeds.detach() != 0).any(-1)
