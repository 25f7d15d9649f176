"""Folders as their makers published them, with random weights and every odd value that they have.

Stable Diffusion 1.5 says bos 0 and eos 2 where its tokenizer has 49406 and 49407, samples with
PNDM, and lists a safety checker and a feature extractor. Stable Diffusion 2.1 has the first 23 of
24 encoder layers and pads with "!". `reduced` folders have the same files and values, and layers
as narrow as the tests' models.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.measuring.real_size import (
    SIZES,
    VIDEO_SIZES,
    Model,
    Size,
    VideoSize,
    ddim,
    motion_adapter,
    unet,
    video_unet,
    write_model,
    write_part,
    write_spec,
)


@dataclass(frozen=True)
class Published:
    """A base: an image model, and a video model of its own or a motion adapter."""

    image_size: str
    video_size: str
    image: Model
    video: Model | None
    spec: dict[str, Any]


PUBLISHED = {
    "sd15-animatediff-v3": Published(
        image_size="sd1",
        video_size="animatediff",
        image=Model(
            scheduler=ddim(_class_name="PNDMScheduler", skip_prk_steps=True, trained_betas=None),
            text_ids=(0, 2, 1),
            extras={
                "feature_extractor": ["transformers", "CLIPImageProcessor"],
                "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
                "requires_safety_checker": True,
            },
        ),
        video=None,
        spec={
            "motion_adapter": "motion_adapter",
            "schedulers": {
                "t2v": {"beta_schedule": "linear", "clip_sample": False, "steps_offset": 1}
            },
        },
    ),
    "sd21-modelscope": Published(
        image_size="sd2",
        video_size="modelscope",
        image=Model(
            scheduler=ddim(prediction_type="v_prediction", trained_betas=None),
            text_ids=(0, 2, 1),
            pad_token="!",
            extras={
                "feature_extractor": ["transformers", "CLIPImageProcessor"],
                "safety_checker": [None, None],
                "requires_safety_checker": False,
            },
        ),
        video=Model(
            scheduler=ddim(trained_betas=None),
            text_ids=(0, 2, 1),
            pad_token="!",
            is_video=True,
        ),
        spec={},
    ),
}


def write_published(folder: Path, name: str, reduced: bool) -> None:
    """Write the base `name` into `folder`, its weights in `SAVED_AS`."""
    import torch

    published = PUBLISHED[name]
    image, video = SIZES[published.image_size], VIDEO_SIZES[published.video_size]
    if reduced:
        image, video = _narrow(image), VIDEO_SIZES[f"tiny-{published.video_size}"]
    torch.manual_seed(0)
    t2i, t2v = folder / "t2i", folder / "t2v"
    write_model(t2i, image, published.image, lambda: unet(image, image.pixels), image.pixels)
    if published.video is None:
        write_part(folder / "motion_adapter", lambda: motion_adapter(version_3(video)))
    else:
        t2v.mkdir()
        for part in ("text_encoder", "vae"):
            (t2v / part).symlink_to(Path("../t2i") / part, target_is_directory=True)
        write_model(t2v, image, published.video, lambda: video_unet(video), image.pixels)
    write_spec(folder, _spec(name, published, video))


def _narrow(size: Size) -> Size:
    """`size` with the tests' widths, and the depth and vocabulary that were published."""
    layers = {"num_hidden_layers": size.text_encoder["num_hidden_layers"]}
    text_encoder = SIZES["tiny"].text_encoder | layers
    return replace(
        SIZES["tiny"],
        text_encoder=text_encoder,
        prediction_type=size.prediction_type,
        vocabulary=size.vocabulary,
    )


def version_3(video: VideoSize) -> VideoSize:
    """AnimateDiff's third adapter has no motion module in the middle, as the second had."""
    assert video.motion is not None
    return replace(video, motion=video.motion | {"use_motion_mid_block": False})


def _spec(name: str, published: Published, video: VideoSize) -> dict[str, Any]:
    least = video.smallest_pixels
    clip = {"num_frames": 2, "height": least, "width": least, "fps": 8}
    sizes = {"num_frames": 8, "height": [least, video.pixels], "width": [least, video.pixels]}
    return {
        "name": name,
        "t2i": "t2i",
        "t2v": "t2i" if published.video is None else "t2v",
        **published.spec,
        "clip": clip | {"num_inference_steps": 4, "guidance_scale": video.guidance_scale},
        "limits": sizes | {"num_inference_steps": 8, "guidance_scale": 20.0},
    }
