"""Folders as their makers published them, with random weights and every odd value that they have.

Stable Diffusion 1.5 says bos 0 and eos 2 where its tokenizer has 49406 and 49407, samples with
PNDM, and lists a safety checker and a feature extractor. Stable Diffusion 2.1 has the first 23 of
24 encoder layers and pads with "!". Wan 2.1 has no image model, and of its text encoder, which
alone is larger than all else here together, 4 of 24 layers are written. `reduced` folders have the
same files and values, and layers as narrow as the tests' models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.measuring.real_size import (
    SIZES,
    UMT5_XXL,
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
from unsee.core.files import write_json


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


WAN = "wan21-t2v-1.3b"
_WAN_TRANSFORMER = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 12,
    "attention_head_dim": 128,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 4096,
    "freq_dim": 256,
    "ffn_dim": 8960,
    "num_layers": 30,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
}
_WAN_NARROW = {"num_attention_heads": 2, "attention_head_dim": 12, "text_dim": 32, "ffn_dim": 32}
_UMT5_4_LAYERS = UMT5_XXL | {"num_layers": 4}
"""Of Wan's text encoder: in float32 the whole takes 23 GB."""
_UMT5_NARROW = {"num_heads": 4, "d_kv": 8, "d_ff": 64}
_WAN_SCHEDULER = {
    "_class_name": "UniPCMultistepScheduler",
    "prediction_type": "flow_prediction",
    "use_flow_sigmas": True,
    "flow_shift": 3.0,
    "solver_order": 2,
    "solver_type": "bh2",
    "predict_x0": True,
    "final_sigmas_type": "zero",
    "num_train_timesteps": 1000,
}
_WAN_SPEC = {
    "name": WAN,
    "t2v": "t2v",
    "clip": {
        "num_frames": 5,
        "height": 128,
        "width": 128,
        "fps": 16,
        "num_inference_steps": 4,
        "guidance_scale": 5.0,
    },
    "limits": {
        "num_frames": 17,
        "height": [128, 256],
        "width": [128, 256],
        "num_inference_steps": 8,
        "guidance_scale": 20.0,
    },
}
NAMES = (*PUBLISHED, WAN)


def write_published(folder: Path, name: str, reduced: bool) -> None:
    """Write the base `name`, one of `NAMES`, into `folder`, its weights in `SAVED_AS`."""
    import torch

    if name == WAN:
        _write_wan(folder, reduced)
        return
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


def _write_wan(folder: Path, reduced: bool) -> None:
    narrow = _WAN_NARROW if reduced else {}
    vae = {"base_dim": 4, "num_res_blocks": 1} if reduced else {}
    encoder = _UMT5_NARROW if reduced else _UMT5_4_LAYERS
    write_wan_base(folder, _WAN_TRANSFORMER | narrow, encoder, vae, _WAN_SPEC)


def write_wan_base(
    folder: Path,
    transformer: Mapping[str, Any],
    encoder: Mapping[str, Any],
    vae: Mapping[str, Any],
    spec: Mapping[str, Any],
) -> None:
    """Write a base of a WanPipeline of these configurations and random weights into `folder`.

    The text encoder has one layer unless `encoder` says otherwise; its tokenizer's pieces are
    single characters.
    """
    import torch
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    torch.manual_seed(0)
    tokenizer = _letters()
    whole = {
        "vocab_size": len(tokenizer),
        "d_model": transformer["text_dim"],
        "num_layers": 1,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        **encoder,
    }
    t2v = folder / "t2v"
    write_part(t2v / "text_encoder", lambda: UMT5EncoderModel(UMT5Config(**whole)).eval())
    write_part(t2v / "transformer", lambda: WanTransformer3DModel(**transformer).eval())
    write_part(t2v / "vae", lambda: AutoencoderKLWan(**vae).eval())
    tokenizer.save_pretrained(t2v / "tokenizer")
    write_json(t2v / "scheduler" / "scheduler_config.json", _WAN_SCHEDULER)
    index = {
        "_class_name": "WanPipeline",
        "_diffusers_version": "0.33.0.dev0",
        "scheduler": ["diffusers", _WAN_SCHEDULER["_class_name"]],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "T5TokenizerFast"],
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLWan"],
    }
    write_json(t2v / "model_index.json", index)
    write_spec(folder, dict(spec))


def _letters() -> Any:
    """A tokenizer of T5's class whose pieces are single characters."""
    from string import printable

    from transformers import T5TokenizerFast

    pieces = ["<pad>", "</s>", "<unk>", "▁", *sorted(printable.strip())]
    return T5TokenizerFast(vocab=[(piece, -float(place)) for place, piece in enumerate(pieces)])


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
