"""Folders as their makers published them, with random weights and every odd value that they have.

Stable Diffusion 1.5 says bos 0 and eos 2 where its tokenizer has 49406 and 49407, samples with
PNDM, and lists a safety checker and a feature extractor. Stable Diffusion 2.1 has the first 23 of
24 encoder layers and pads with "!". `reduced` folders have the same files and values, and layers
as narrow as the tests' models.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from benchmarks.measuring.real_size import (
    SAVED_AS,
    SIZES,
    VIDEO_SIZES,
    Size,
    VideoSize,
    default_dtype,
    fill_zeros,
    motion_adapter,
    unet,
    vae,
    video_unet,
)

VOCABULARY = 49408
_BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
_LATENT_DIFFUSION = _BETAS | {
    "_diffusers_version": "0.8.0",
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}


@dataclasses.dataclass(frozen=True)
class Model:
    """One folder in diffusers' format.

    `text_ids` are bos, eos and pad of the encoder's config.json, whatever the tokenizer's are;
    `pad_token` is the tokenizer's. `extras` are entries of model_index.json beside the usual five.
    """

    scheduler: dict[str, Any]
    text_ids: tuple[int, int, int]
    pad_token: str
    extras: dict[str, Any]
    pipeline: str = "StableDiffusionPipeline"


@dataclasses.dataclass(frozen=True)
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
            scheduler=_LATENT_DIFFUSION | {"_class_name": "PNDMScheduler"},
            text_ids=(0, 2, 1),
            pad_token="<|endoftext|>",
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
            scheduler=_LATENT_DIFFUSION
            | {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"},
            text_ids=(0, 2, 1),
            pad_token="!",
            extras={
                "feature_extractor": ["transformers", "CLIPImageProcessor"],
                "safety_checker": [None, None],
                "requires_safety_checker": False,
            },
        ),
        video=Model(
            scheduler=_LATENT_DIFFUSION | {"_class_name": "DDIMScheduler"},
            text_ids=(0, 2, 1),
            pad_token="!",
            extras={},
            pipeline="TextToVideoSDPipeline",
        ),
        spec={},
    ),
}


def write_published(folder: Path, name: str, *, reduced: bool) -> None:
    """Write the base `name` into `folder`, its weights in `SAVED_AS`; `base.yaml` comes last."""
    import torch

    published = PUBLISHED[name]
    image, video = SIZES[published.image_size], VIDEO_SIZES[published.video_size]
    if reduced:
        image, video = _narrow(image), VIDEO_SIZES[f"tiny-{published.video_size}"]
    torch.manual_seed(0)
    parts: dict[Path, Callable[[], Any]] = {
        folder / "t2i" / "text_encoder": lambda: _text_encoder(image, published.image),
        folder / "t2i" / "vae": lambda: vae(image, image.pixels),
        folder / "t2i" / "unet": lambda: unet(image, image.pixels),
    }
    if published.video is None:
        parts[folder / "motion_adapter"] = lambda: motion_adapter(version_3(video))
    else:
        parts[folder / "t2v" / "unet"] = lambda: video_unet(video)
    for place, make in parts.items():
        _save(place, make)
    _write_model(folder / "t2i", published.image)
    if published.video is not None:
        for part in ("text_encoder", "vae"):
            (folder / "t2v" / part).symlink_to(Path("../t2i") / part, target_is_directory=True)
        _write_model(folder / "t2v", published.video)
    spec = _spec(name, published, video)
    (folder / "base.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))


def _narrow(size: Size) -> Size:
    """`size` with the tests' widths, and the depth and vocabulary that were published."""
    layers = {"num_hidden_layers": size.text_encoder["num_hidden_layers"]}
    text_encoder = SIZES["tiny"].text_encoder | layers
    return dataclasses.replace(
        SIZES["tiny"],
        text_encoder=text_encoder,
        prediction_type=size.prediction_type,
        vocabulary=VOCABULARY,
    )


def version_3(video: VideoSize) -> VideoSize:
    """AnimateDiff's third adapter has no motion module in the middle, as the second had."""
    assert video.motion is not None
    return dataclasses.replace(video, motion=video.motion | {"use_motion_mid_block": False})


def _save(place: Path, make: Callable[[], Any]) -> None:
    import torch

    from unsee.models.quiet import quiet_libraries

    with quiet_libraries(), default_dtype(getattr(torch, SAVED_AS)):
        part = make()
        fill_zeros(part)
        part.save_pretrained(place)


def _text_encoder(size: Size, model: Model) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    bos, eos, pad = model.text_ids
    config = CLIPTextConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=77,
        bos_token_id=bos,
        eos_token_id=eos,
        pad_token_id=pad,
        projection_dim=512,
        **size.text_encoder,
    )
    return CLIPTextModel(config).eval()


def _write_model(folder: Path, model: Model) -> None:
    """Tokenizer, scheduler and model_index.json, and a file for each component that is not read."""
    _tokenizer(model.pad_token).save_pretrained(folder / "tokenizer")
    (folder / "scheduler").mkdir(parents=True, exist_ok=True)
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(model.scheduler, indent=2) + "\n")
    video = model.pipeline == "TextToVideoSDPipeline"
    index = {
        "_class_name": model.pipeline,
        "_diffusers_version": "0.8.0",
        "scheduler": ["diffusers", model.scheduler["_class_name"]],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet3DConditionModel" if video else "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index | model.extras, indent=2) + "\n")


def _tokenizer(pad_token: str) -> Any:
    """Every byte is a token, and the ids of the special ones are those of CLIP."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())  # "!" is the first, as in CLIP
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += [f"unused{index}</w>" for index in range(len(tokens), VOCABULARY - 2)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77, pad_token=pad_token)


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
