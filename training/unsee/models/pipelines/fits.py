"""Whether a transformer, its autoencoder, the text encoder and the base's clips fit together."""

from collections.abc import Mapping, Sequence
from typing import Any

from unsee.core.errors import BaseFolderError


def check_transformer(
    where: object, widths: Mapping[str, int], text_width: int, channels: Sequence[int]
) -> None:
    """Raise `BaseFolderError` unless the transformer takes and gives latents, and reads the states.

    Args:
        where: the model's folder, for the sentence.
        widths: the transformer's options that say how wide a state is.
        text_width: how wide it is.
        channels: that the transformer takes and gives, and that the autoencoder has.
    """
    for name, width in widths.items():
        if width != text_width:
            raise BaseFolderError(
                f"{where}/transformer/config.json has {name}: {width}, and the text encoder says "
                f"{text_width} values a token; put the encoder and the denoiser of one model there"
            )
    if len(set(channels)) > 1:
        raise BaseFolderError(
            f"{where}: the transformer takes {channels[0]} channels and gives {channels[1]}, and "
            f"the vae has {channels[2]}; all must be equal, so a model that takes an image or a "
            "mask beside the prompt cannot be used"
        )


def check_clip(where: object, parts: Any, multiple: int, frames_per_latent: int) -> None:
    """Raise `BaseFolderError` unless the base's clips have a size that the pipeline makes.

    Height and width are multiples of `multiple`; frames are one more than a multiple of
    `frames_per_latent`.
    """
    for name in ("height", "width"):
        size = getattr(parts, name)
        if size % multiple:
            raise BaseFolderError(
                f"clip.{name} of base.yaml is {size}, and {where} makes multiples of {multiple}; "
                f"give {max(size // multiple, 1) * multiple}"
            )
    beyond = (parts.num_frames - 1) % frames_per_latent
    if beyond:
        raise BaseFolderError(
            f"clip.num_frames of base.yaml is {parts.num_frames}, and {where} makes one frame more "
            f"than a multiple of {frames_per_latent}; give {parts.num_frames - beyond}"
        )
