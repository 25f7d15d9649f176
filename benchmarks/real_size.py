"""Bases of real size with random weights: Stable Diffusion 1.x and 2.x as their configs say.

Memory, speed and whether the code runs at all do not depend on the values of the weights, so
nothing is downloaded. Knows diffusers' folder layout; does not know what is measured on a base.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

SAVED_AS = "bfloat16"


@dataclass(frozen=True)
class Size:
    """What the published configs of a text-to-image model say; the rest is the classes' default."""

    text_encoder: dict[str, Any]
    unet: dict[str, Any]
    vae: dict[str, Any]
    prediction_type: str
    vocabulary: int = 49408
    tokens: int = 77
    pixels: int = 512
    parameters: dict[str, int] = field(default_factory=dict)


_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "scaling_factor": 0.18215,
}
_UNET = {
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
    "layers_per_block": 2,
}
SIZES = {
    "sd1": Size(
        text_encoder={
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "hidden_act": "quick_gelu",
        },
        unet=_UNET | {"cross_attention_dim": 768, "attention_head_dim": 8},
        vae=_VAE,
        prediction_type="epsilon",
        parameters={"text_encoder": 123_060_480, "unet": 859_520_964, "vae": 83_653_863},
    ),
    "sd2": Size(
        text_encoder={
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 23,
            "num_attention_heads": 16,
            "hidden_act": "gelu",
        },
        unet=_UNET
        | {
            "cross_attention_dim": 1024,
            "attention_head_dim": (5, 10, 20, 20),
            "use_linear_projection": True,
        },
        vae=_VAE,
        prediction_type="v_prediction",
        parameters={"text_encoder": 340_387_840, "unet": 865_910_724, "vae": 83_653_863},
    ),
    "tiny": Size(
        text_encoder={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
        },
        unet={
            "block_out_channels": (16, 32),
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
            "layers_per_block": 1,
            "cross_attention_dim": 32,
            "attention_head_dim": 8,
            "norm_num_groups": 8,
        },
        vae=_VAE | {"block_out_channels": (8,) * 4, "layers_per_block": 1, "norm_num_groups": 4},
        prediction_type="v_prediction",
        vocabulary=600,
        pixels=64,
    ),
}
"""The sizes by name. Published for other pictures than `pixels`: the 2.x model of 768."""


def write_base(folder: Path, name: str, pixels: int) -> None:
    """Write a base of the size `name` for square pictures into `folder`.

    Its denoiser and autoencoder are saved in `SAVED_AS`. It has no video model: `t2v` repeats
    `t2i`.
    """
    import torch

    from unsee.training.quiet import quiet_libraries

    size, dtype = SIZES[name], getattr(torch, SAVED_AS)
    torch.manual_seed(0)
    t2i = folder / "t2i"
    with quiet_libraries():
        tokenizer = _tokenizer(size)
        tokenizer.save_pretrained(t2i / "tokenizer")
        text_encoder(size, tokenizer).save_pretrained(t2i / "text_encoder")
        unet(size, pixels).to(dtype).save_pretrained(t2i / "unet")
        vae(size, pixels).to(dtype).save_pretrained(t2i / "vae")
    _scheduler(size).save_pretrained(t2i / "scheduler")
    (t2i / "model_index.json").write_text(json.dumps(_INDEX, indent=2) + "\n")
    (folder / "base.yaml").write_text(yaml.safe_dump(_spec(name, pixels), sort_keys=False))


def text_encoder(size: Size, tokenizer: Any) -> Any:
    """A random `CLIPTextModel`, float32."""
    from transformers import CLIPTextConfig, CLIPTextModel

    special = {
        name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")
    }
    config = CLIPTextConfig(
        vocab_size=size.vocabulary,
        max_position_embeddings=size.tokens,
        **special,
        **size.text_encoder,
    )
    return CLIPTextModel(config).eval()


def unet(size: Size, pixels: int) -> Any:
    """A random `UNet2DConditionModel`, float32."""
    from diffusers import UNet2DConditionModel

    factor = 2 ** (len(size.vae["block_out_channels"]) - 1)
    return UNet2DConditionModel(sample_size=pixels // factor, **size.unet).eval()


def vae(size: Size, pixels: int) -> Any:
    """A random `AutoencoderKL`, float32."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(sample_size=pixels, **size.vae).eval()


def _tokenizer(size: Size) -> Any:
    """Every byte is a token, so that any prompt can be read, in more tokens than usual."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    endings = [f"{letter}</w>" for letter in letters]
    tokens = [*letters, *endings, "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=size.tokens)


def _scheduler(size: Size) -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=size.prediction_type,
    )


_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def _spec(name: str, pixels: int) -> dict[str, Any]:
    clip = {"num_frames": 16, "height": pixels, "width": pixels, "fps": 8}
    sampling = {"num_inference_steps": 25, "guidance_scale": 7.5}
    sizes = {"num_frames": 16, "height": [pixels, pixels], "width": [pixels, pixels]}
    return {
        "name": name,
        "t2i": "t2i",
        "t2v": "t2i",
        "clip": clip | sampling,
        "limits": sizes | {"num_inference_steps": 50, "guidance_scale": 20.0},
    }
