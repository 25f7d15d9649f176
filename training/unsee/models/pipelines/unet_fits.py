"""Whether a UNet, its autoencoder and the text encoder fit together and take nothing else."""

from typing import Any

from unsee.core.errors import BaseFolderError

_FURTHER_INPUTS = (
    "addition_embed_type",
    "class_embed_type",
    "encoder_hid_dim",
    "encoder_hid_dim_type",
    "num_class_embeds",
    "time_cond_proj_dim",
)
"""Options of a UNet that make it take more than latents, timestep and prompt."""


def check_unet(where: object, unet: Any, vae: Any, text_width: int, *, is_image: bool) -> None:
    """Raise `BaseFolderError` unless `unet` takes latents, timestep and prompt, and they fit.

    Args:
        where: the model's folder, for the sentence.
        unet: the denoiser's config.
        vae: the autoencoder's config.
        text_width: the size of the text encoder's states.
        is_image: whether images are made, whose size is the config's own.
    """
    for name in _FURTHER_INPUTS:
        value = unet.get(name)
        if value is not None:
            raise BaseFolderError(
                f"{where}/unet/config.json has {name}: {value}, so the denoiser takes more than "
                "latents, timestep and prompt, which nothing here gives it; choose a base without"
            )
    widths = unet.get("cross_attention_dim")
    for width in widths if isinstance(widths, (list, tuple)) else [widths]:
        if width != text_width:
            raise BaseFolderError(
                f"{where}/unet/config.json has cross_attention_dim: {width}, and the text encoder "
                f"says {text_width} values a token; put the encoder and the denoiser of one model "
                "there"
            )
    channels = (unet.get("in_channels"), unet.get("out_channels"), vae.get("latent_channels"))
    if len(set(channels)) > 1:
        raise BaseFolderError(
            f"{where}: the unet takes {channels[0]} channels and gives {channels[1]}, and the vae "
            f"has {channels[2]} (in_channels, out_channels, latent_channels); all must be equal, "
            "so a model for inpainting or depth cannot be used"
        )
    if vae.get("shift_factor"):
        raise BaseFolderError(
            f"{where}/vae/config.json has shift_factor: {vae['shift_factor']}, which diffusers' "
            "pipelines of these models leave out; choose the autoencoder that belongs to the unet"
        )
    scale = vae.get("scaling_factor")
    if not isinstance(scale, int | float) or not scale:
        raise BaseFolderError(
            f"{where}/vae/config.json has scaling_factor: {scale!r}; give the number by which the "
            "denoiser's latents are scaled, such as 0.18215 for Stable Diffusion"
        )
    if vae.get("in_channels") != 3 or vae.get("out_channels") != 3:
        raise BaseFolderError(
            f"{where}/vae/config.json has in_channels: {vae.get('in_channels')} and out_channels: "
            f"{vae.get('out_channels')}; frames have 3 (red, green, blue)"
        )
    if is_image and not unet.get("sample_size"):
        raise BaseFolderError(
            f"{where}/unet/config.json names no sample_size, so the images' size is not known; "
            "add it, in latents (64 for images of 512 pixels)"
        )
