"""`WanPipeline`: latents with a mean and a deviation for each channel, and flow matching."""

import math
from typing import Any

import torch

from unsee.core.errors import BaseFolderError
from unsee.core.validation import shortened
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
        config, vae = self.parts.denoiser.config, self.parts.vae.config
        if config.image_dim is not None:
            raise BaseFolderError(
                f"{where}/transformer/config.json has image_dim: {config.image_dim}, so the "
                "denoiser takes an image beside the prompt; choose a base that takes text alone"
            )
        boundary = self.parts.options.get("boundary_ratio")
        if boundary is not None:
            raise BaseFolderError(
                f"{where}/model_index.json has boundary_ratio: {boundary}, so a second denoiser "
                "makes the last steps, and there is none; choose a base whose transformer makes "
                "all steps, and write null there"
            )
        _check_autoencoder(where, self.parts.vae)
        channels = (config.in_channels, config.out_channels or config.in_channels, vae.z_dim)
        check_transformer(where, {"text_dim": config.text_dim}, text_width, channels)
        patch = max(config.patch_size[1:])
        multiple = max(vae.scale_factor_spatial * patch, _SMALLEST_MULTIPLE)
        check_clip(where, self.parts, multiple, vae.scale_factor_temporal)

    def components(self) -> dict[str, Any]:
        """With the option of its index."""
        expands = bool(self.parts.options.get("expand_timesteps"))
        return super().components() | {"expand_timesteps": expands}


def _check_autoencoder(where: object, vae: Any) -> None:
    """Raise `BaseFolderError` unless its config describes latents and frames as its layers do."""
    config, file = vae.config, f"{where}/vae/config.json"
    if type(vae).__name__ != "AutoencoderKLWan":
        raise BaseFolderError(
            f"{where}/vae is an {type(vae).__name__}, and a WanPipeline decodes with an "
            "AutoencoderKLWan; put the autoencoder of the transformer there"
        )
    for name, is_right in (("latents_mean", math.isfinite), ("latents_std", _is_deviation)):
        numbers = config[name]
        if not _are_numbers(numbers, config.z_dim) or not all(map(is_right, numbers)):
            kind = "finite" if name == "latents_mean" else "positive"
            raise BaseFolderError(
                f"{file} has {name}: {shortened(numbers)}, which is no list of {config.z_dim} "
                f"{kind} numbers, one for each channel of z_dim; put the model's own there"
            )
    patch = config.patch_size
    is_patch = patch is None or (isinstance(patch, int) and patch > 0)
    if not is_patch or config.in_channels != 3 * (patch or 1) ** 2:
        raise BaseFolderError(
            f"{file} has patch_size: {patch} and in_channels: {config.in_channels}; a patch of p "
            "by p pixels has 3 p p channels, and without one there are 3"
        )
    made = {
        "scale_factor_spatial": 2 ** (len(config.dim_mult) - 1) * (patch or 1),
        "scale_factor_temporal": 2
        ** sum(map(bool, config.temperal_downsample[: len(config.dim_mult) - 1])),
    }
    for name, factor in made.items():
        if config[name] != factor:
            raise BaseFolderError(
                f"{file} has {name}: {config[name]}, and by dim_mult, temperal_downsample and "
                f"patch_size its layers make {factor}; write that"
            )


def _are_numbers(values: Any, count: int) -> bool:
    is_list = isinstance(values, list | tuple) and len(values) == count
    return is_list and all(isinstance(value, int | float) for value in values)


def _is_deviation(value: float) -> bool:
    return math.isfinite(value) and value > 0
