"""Bases of real size with random weights: Stable Diffusion 1.x and 2.x, and the video models
ModelScope and AnimateDiff, as their configs say.

Memory, speed and whether the code runs at all do not depend on the values of the weights, so
nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from unsee.core.files import write_file, write_json

if TYPE_CHECKING:
    import torch

SAVED_AS = "bfloat16"
_SHARD = "2GB"
_BIAS_FAN_IN = 2500
END = "<|endoftext|>"


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


@dataclass(frozen=True)
class VideoSize:
    """What the published configs of a text-to-video model say.

    `like` shares its text encoder, autoencoder and noise schedule. The video denoiser is a
    `UNet3DConditionModel` (`unet`) or the UNet of `like` with a `MotionAdapter` (`motion`).
    """

    like: Size
    pixels: int
    unet: dict[str, Any] | None = None
    motion: dict[str, Any] | None = None
    num_frames: int = 16
    num_inference_steps: int = 25
    guidance_scale: float = 7.5
    prediction_type: str = "epsilon"
    smallest_pixels: int = 64
    parameters: dict[str, int] = field(default_factory=dict)


_WIDTHS = {"block_out_channels": _UNET["block_out_channels"]}
VIDEO_SIZES = {
    "modelscope": VideoSize(
        like=SIZES["sd2"],
        pixels=256,
        unet=_WIDTHS
        | {
            "down_block_types": (*("CrossAttnDownBlock3D",) * 3, "DownBlock3D"),
            "up_block_types": ("UpBlock3D", *("CrossAttnUpBlock3D",) * 3),
            "layers_per_block": 2,
            "cross_attention_dim": 1024,
            "attention_head_dim": 64,
        },
        parameters={"unet": 1_411_233_860},
    ),
    "animatediff": VideoSize(
        like=SIZES["sd1"],
        pixels=512,
        motion=_WIDTHS
        | {
            "motion_layers_per_block": 2,
            "motion_num_attention_heads": 8,
            "motion_max_seq_length": 32,
        },
        parameters={"motion": 453_209_280, "unet": 859_520_964 + 453_209_280},
    ),
    "middle": VideoSize(
        like=Size(
            text_encoder={
                "hidden_size": 512,
                "intermediate_size": 2048,
                "num_hidden_layers": 6,
                "num_attention_heads": 8,
            },
            unet={},
            vae=_VAE | {"block_out_channels": (32, 64, 64, 64), "layers_per_block": 1},
            prediction_type="v_prediction",
            vocabulary=600,
        ),
        pixels=256,
        unet={
            "block_out_channels": (64, 128, 256, 256),
            "layers_per_block": 2,
            "cross_attention_dim": 512,
            "attention_head_dim": 32,
        },
        num_inference_steps=2,
        guidance_scale=3.5,
        prediction_type="v_prediction",
        parameters={"unet": 59_263_300},
    ),
    "tiny-modelscope": VideoSize(
        like=replace(
            SIZES["tiny"],
            vae=SIZES["tiny"].vae
            | {
                "block_out_channels": (8,) * 2,
                "down_block_types": ("DownEncoderBlock2D",) * 2,
                "up_block_types": ("UpDecoderBlock2D",) * 2,
            },
        ),
        pixels=64,
        unet={
            "block_out_channels": (16,),
            "down_block_types": ("CrossAttnDownBlock3D",),
            "up_block_types": ("UpBlock3D",),
            "layers_per_block": 1,
            "cross_attention_dim": 32,
            "attention_head_dim": 8,
            "norm_num_groups": 8,
        },
        num_frames=4,
        smallest_pixels=16,
    ),
    "tiny-animatediff": VideoSize(
        like=SIZES["tiny"],
        pixels=64,
        motion={
            "block_out_channels": (16, 32),
            "motion_layers_per_block": 1,
            "motion_norm_num_groups": 8,
            "motion_num_attention_heads": 2,
            "motion_max_seq_length": 8,
        },
        num_frames=4,
        smallest_pixels=16,
    ),
}
"""ModelScope is damo-vilab's text-to-video-ms-1.7b (ZeroScope has the same config), AnimateDiff the
motion adapter v1-5-2 on Stable Diffusion 1.x, `middle` lies between the embedded base and these.
`smallest_pixels` still halve evenly."""

UMT5_XXL: dict[str, Any] = {
    "vocab_size": 256384,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
}
"""Wan's text encoder, 22.7 GB in float32."""
UMT5_TOKENS = 512
"""As many as Wan's pipeline lets a prompt have."""

_BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def ddim(**values: Any) -> dict[str, Any]:
    """The configuration of the sampler that latent diffusion came with, and `values` of it."""
    usual = {"_class_name": "DDIMScheduler", "clip_sample": False, "set_alpha_to_one": False}
    return usual | _BETAS | {"num_train_timesteps": 1000, "steps_offset": 1} | values


@dataclass(frozen=True)
class Model:
    """What one folder in diffusers' format says beside its weights.

    `text_ids` are bos, eos and pad of the encoder's config.json, None for those of the tokenizer;
    `pad_token` is the tokenizer's. `extras` are entries of model_index.json beside the usual five.
    """

    scheduler: dict[str, Any]
    text_ids: tuple[int, int, int] | None = None
    pad_token: str = END
    extras: dict[str, Any] = field(default_factory=dict)
    is_video: bool = False


def write_image_base(folder: Path, name: str, pixels: int) -> None:
    """Write a base of the size `name` for square pictures; its `t2v` repeats its `t2i`."""
    like = SIZES[name]
    _write_base(folder, name, VideoSize(like, pixels, prediction_type=like.prediction_type))


def write_video_base(folder: Path, name: str) -> None:
    """Write a base of the video size `name` into `folder`; its `t2i` repeats its `t2v`."""
    _write_base(folder, name, VIDEO_SIZES[name])


def _write_base(folder: Path, name: str, size: VideoSize) -> None:
    import torch

    torch.manual_seed(0)
    model = Model(ddim(prediction_type=size.prediction_type), is_video=size.unet is not None)
    write_model(folder / "model", size.like, model, lambda: video_unet(size), size.pixels)
    adapter = {}
    if size.motion is not None:
        adapter["motion_adapter"] = "motion_adapter"
        write_part(folder / "motion_adapter", lambda: motion_adapter(size))
    clips = _clips(size.num_frames, size.smallest_pixels, size.pixels, size)
    write_spec(folder, {"name": name, "t2i": "model", "t2v": "model", **adapter, **clips})


def write_model(
    folder: Path, size: Size, model: Model, denoiser: Callable[[], Any], pixels: int
) -> None:
    """Write one model's folder; a text encoder or autoencoder that is there already stays."""
    parts: dict[str, Callable[[], Any]] = {
        "text_encoder": lambda: text_encoder(size, model.text_ids),
        "vae": lambda: vae(size, pixels),
        "unet": denoiser,
    }
    for name, make in parts.items():
        if not (folder / name).exists():
            write_part(folder / name, make)
    _tokenizer(size, model.pad_token).save_pretrained(folder / "tokenizer")
    write_json(folder / "scheduler" / "scheduler_config.json", model.scheduler)
    kind, unet_class = (
        ("TextToVideoSD", "UNet3D") if model.is_video else ("StableDiffusion", "UNet2D")
    )
    index = {
        "_class_name": f"{kind}Pipeline",
        "_diffusers_version": "0.8.0",
        "scheduler": ["diffusers", model.scheduler["_class_name"]],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", f"{unet_class}ConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    write_json(folder / "model_index.json", index | model.extras)


def write_part(folder: Path, make: Callable[[], Any]) -> None:
    """Make a part in `SAVED_AS`, save it and free it.

    No tensor is zero, those neither that diffusers starts at zero, or a branch that an export lost
    would not be missed.
    """
    import torch

    from unsee.models.quiet import quiet_libraries

    with quiet_libraries(), default_dtype(getattr(torch, SAVED_AS)):
        part = make()
        fill_zeros(part)
        part.save_pretrained(folder, max_shard_size=_SHARD)


def write_spec(folder: Path, spec: dict[str, Any]) -> None:
    """Write `base.yaml`; it comes last, so that a base without it is unfinished."""
    write_file(folder / "base.yaml", yaml.safe_dump(spec, sort_keys=False))


def video_unet(size: VideoSize) -> Any:
    """A random `UNet3DConditionModel` or, for a motion adapter, the `UNet2DConditionModel`."""
    if size.unet is None:
        return unet(size.like, size.pixels)
    from diffusers import UNet3DConditionModel

    return UNet3DConditionModel(sample_size=size.pixels // _factor(size.like), **size.unet).eval()


def motion_adapter(size: VideoSize) -> Any:
    """A random `MotionAdapter`, None if the size has none."""
    if size.motion is None:
        return None
    from diffusers import MotionAdapter

    return MotionAdapter(**size.motion).eval()


def text_encoder(size: Size, text_ids: tuple[int, int, int] | None = None) -> Any:
    """A random `CLIPTextModel`; `text_ids` are bos, eos and pad, by default the tokenizer's."""
    from transformers import CLIPTextConfig, CLIPTextModel

    last = size.vocabulary - 1
    bos, eos, pad = text_ids or (last - 1, last, last)
    config = CLIPTextConfig(
        vocab_size=size.vocabulary,
        max_position_embeddings=size.tokens,
        bos_token_id=bos,
        eos_token_id=eos,
        pad_token_id=pad,
        **size.text_encoder,
    )
    return CLIPTextModel(config).eval()


def umt5_encoder(**config: Any) -> Any:
    """A random `UMT5EncoderModel` of UMT5-XXL's size but for what `config` changes."""
    from transformers import UMT5Config, UMT5EncoderModel

    return UMT5EncoderModel(UMT5Config(**{**UMT5_XXL, **config})).eval()


def unet(size: Size, pixels: int) -> Any:
    """A random `UNet2DConditionModel`."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(sample_size=pixels // _factor(size), **size.unet).eval()


def vae(size: Size, pixels: int) -> Any:
    """A random `AutoencoderKL`."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(sample_size=pixels, **size.vae).eval()


def _factor(size: Size) -> int:
    return int(2 ** (len(size.vae["block_out_channels"]) - 1))


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Make new tensors in `dtype` inside the block."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def fill_zeros(model: torch.nn.Module) -> None:
    """Give all tensors that are zero random values of the size that keeps activations alive."""
    import torch

    for parameter in model.parameters():
        if not parameter.any():
            fan_in = parameter[0].numel() if parameter.dim() > 1 else _BIAS_FAN_IN
            torch.nn.init.normal_(parameter, std=fan_in**-0.5)


def _tokenizer(size: Size, pad_token: str) -> Any:
    """Every byte is a token, so that any prompt can be read; the last ids are the special ones."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())  # "!" is the first, as in CLIP
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += [f"unused{index}</w>" for index in range(len(tokens), size.vocabulary - 2)]
    tokens += ["<|startoftext|>", END]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(
        vocab=vocabulary, merges=[], model_max_length=size.tokens, pad_token=pad_token
    )


def _clips(num_frames: int, least: int, most: int, size: VideoSize) -> dict[str, Any]:
    clip = {"num_frames": num_frames, "height": most, "width": most, "fps": 8}
    steps = {"num_inference_steps": size.num_inference_steps}
    sizes = {"num_frames": num_frames, "height": [least, most], "width": [least, most]}
    return {
        "clip": clip | steps | {"guidance_scale": size.guidance_scale},
        "limits": sizes | {"num_inference_steps": 50, "guidance_scale": 20.0},
    }
