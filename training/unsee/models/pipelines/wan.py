"""`WanPipeline`: latents with a mean and a deviation for each channel, and flow matching."""

from typing import Any

import torch

from unsee.core.errors import BaseFolderError
from unsee.models.pipelines.fits import check_clip, check_transformer
from unsee.models.pipelines.model import GenerativeModel, drawn, of_width
from unsee.models.pipelines.noise import NoiseProcess, flow_matching

_SMALLEST_MULTIPLE = 16
"""Of height and width, whatever the patches."""


class Wan(GenerativeModel):
    """Wan 2.1, and what has one transformer of 2.2."""

    pipeline_name = "WanPipeline"

    @property
    def process(self) -> NoiseProcess:
        """Flow matching with the scheduler's shift."""
        return flow_matching(self.parts.scheduler, self.parts.scheduler_file)

    def latents(self, pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """One frame, standardised."""
        vae = self.parts.vae
        latents = drawn(vae, pixels[:, :, None], generator)
        mean = of_width(vae.config.latents_mean, latents)
        return (latents - mean) / of_width(vae.config.latents_std, latents)

    def predict(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, prompt_embeds: torch.Tensor
    ) -> torch.Tensor:
        """See `GenerativeModel.predict`."""
        transformer = self.parts.denoiser
        if self.parts.options.get("expand_timesteps"):  # one for each token
            cells = noisy[0, 0, :, ::2, ::2].numel()
            timesteps = timesteps[:, None].expand(-1, cells)
        prediction: torch.Tensor = transformer(
            hidden_states=noisy.to(transformer.dtype),
            timestep=timesteps,
            encoder_hidden_states=prompt_embeds.to(transformer.dtype),
        ).sample
        return prediction.float()

    def check(self, where: object, text_width: int) -> None:
        """See `GenerativeModel.check`."""
        config, vae = self.parts.denoiser.config, self.parts.vae.config
        if config.image_dim is not None:
            raise BaseFolderError(
                f"{where}/transformer/config.json has image_dim: {config.image_dim}, so the "
                "denoiser takes an image beside the prompt; choose a base that takes text alone"
            )
        channels = (config.in_channels, config.out_channels or config.in_channels, vae.z_dim)
        check_transformer(where, {"text_dim": config.text_dim}, text_width, channels)
        patch = max(config.patch_size[1:])
        multiple = max(vae.scale_factor_spatial * patch, _SMALLEST_MULTIPLE)
        check_clip(where, self.parts, multiple, vae.scale_factor_temporal)

    def components(self) -> dict[str, Any]:
        """With the options of its index."""
        chosen = ("boundary_ratio", "expand_timesteps")
        return super().components() | {
            name: self.parts.options[name] for name in chosen if name in self.parts.options
        }
