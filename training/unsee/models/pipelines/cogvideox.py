"""`CogVideoXPipeline`: a diffusion with a schedule of its own, frames before channels, rotations.

A prompt's padding is read by encoder and denoiser alike.
"""

from typing import Any

import torch

from unsee.models.pipelines.fits import check_clip, check_transformer
from unsee.models.pipelines.model import GenerativeModel, drawn
from unsee.models.pipelines.noise import Diffusion, NoiseProcess, diffusion_by_betas

_SMALLEST_MULTIPLE = 8
"""Of height and width, whatever the patches."""


class CogVideoX(GenerativeModel):
    """CogVideoX 1.0 and 1.5."""

    pipeline_name = "CogVideoXPipeline"

    @property
    def process(self) -> NoiseProcess:
        """The scheduler's own, which shifts the schedule of its betas."""
        scheduler = self.parts.scheduler
        if hasattr(scheduler, "get_velocity"):
            return Diffusion(scheduler)
        return diffusion_by_betas(scheduler, self.parts.scheduler_file)

    def latents(self, pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """One frame, as often as a patch has frames."""
        vae = self.parts.vae
        latents = drawn(vae, pixels[:, :, None], generator) * float(vae.config.scaling_factor)
        return latents.repeat(1, 1, self.parts.denoiser.config.patch_size_t or 1, 1, 1)

    def predict(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, prompt_embeds: torch.Tensor
    ) -> torch.Tensor:
        transformer = self.parts.denoiser
        frames_first = noisy.transpose(1, 2)
        prediction: torch.Tensor = transformer(
            hidden_states=frames_first.to(transformer.dtype),
            encoder_hidden_states=prompt_embeds.to(transformer.dtype),
            timestep=timesteps,
            image_rotary_emb=self._rotations(frames_first),
        ).sample
        return prediction.float().transpose(1, 2)

    def check(self, where: object, text_width: int) -> None:
        autoencoder = self.parts.vae
        config, vae = self.parts.denoiser.config, autoencoder.config
        channels = (config.in_channels, config.out_channels, vae.latent_channels)
        check_transformer(where, {"text_embed_dim": config.text_embed_dim}, text_width, channels)
        factor = 2 ** (len(vae.block_out_channels) - 1)
        multiple = max(factor * config.patch_size, _SMALLEST_MULTIPLE)
        at_once = autoencoder.num_latent_frames_batch_size  # which it decodes after the first
        check_clip(where, self.parts, multiple, int(vae.temporal_compression_ratio) * at_once)

    def _rotations(self, frames_first: torch.Tensor) -> Any:
        """The rotary embeddings of latents [N, F, C, h, w]; None where positions are added."""
        if not self.parts.denoiser.config.use_rotary_positional_embeddings:
            return None
        factor = self.pipeline.vae_scale_factor_spatial
        num_frames, _, height, width = frames_first.shape[1:]
        return self.pipeline._prepare_rotary_positional_embeddings(
            height * factor, width * factor, num_frames, frames_first.device
        )
