"""Tiny random pipelines of the six classes whose text encoders can be edited; nothing is read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from diffusers import (
    AnimateDiffPipeline,
    AutoencoderKLCogVideoX,
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    StableDiffusionPipeline,
    TextToVideoSDPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from encoder_fakes import WIDTH, t5_tokenizer
from transformers import T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

from motion_fakes import tiny_adapter

LATENT_CHANNELS = 4


def t5_encoder(kind: type[Any] = T5EncoderModel, config: type[Any] = T5Config) -> Any:
    """A random encoder of the T5 kind, `WIDTH` wide."""
    shape = {"d_model": WIDTH, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    size = len(t5_tokenizer())
    fields = config(vocab_size=size, feed_forward_proj="gated-gelu", pad_token_id=0, **shape)
    return _alive(kind(fields))


def stable_diffusion(base_dir: Path) -> Any:
    return StableDiffusionPipeline.from_pretrained(base_dir / "t2i")


def text_to_video(base_dir: Path) -> Any:
    return TextToVideoSDPipeline.from_pretrained(base_dir / "t2v")


def animate_diff(base_dir: Path) -> Any:
    image = stable_diffusion(base_dir)
    names = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
    parts = {name: image.components[name] for name in names}
    return AnimateDiffPipeline(**parts, motion_adapter=tiny_adapter())


def wan(base_dir: Path) -> Any:
    """Frames of 4n + 1, sizes in multiples of 16."""
    vae = AutoencoderKLWan(
        base_dim=4,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.1] * LATENT_CHANNELS,
        latents_std=[0.8] * LATENT_CHANNELS,
    )
    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        text_dim=WIDTH,
        freq_dim=16,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=32,
    )
    return WanPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(UMT5EncoderModel, UMT5Config),
        vae=_alive(vae),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=_alive(transformer),
    )


def ltx(base_dir: Path) -> Any:
    """Frames of 8n + 1, sizes in multiples of 32."""
    vae = AutoencoderKLLTXVideo(
        in_channels=3,
        out_channels=3,
        latent_channels=LATENT_CHANNELS,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False, False, False, False, False),
        upsample_residual=(False, False, False, False),
        upsample_factor=(1, 1, 1, 1),
        timestep_conditioning=False,
        patch_size=1,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
    )
    vae.use_framewise_encoding = vae.use_framewise_decoding = False
    transformer = LTXVideoTransformer3DModel(
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        num_layers=1,
        caption_channels=WIDTH,
    )
    return LTXPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=_alive(vae),
        text_encoder=t5_encoder(),
        tokenizer=t5_tokenizer(),
        transformer=_alive(transformer),
    )


def cog_video_x(base_dir: Path) -> Any:
    """Frames of 4n + 1, 16 pixels a side and 226 tokens."""
    vae = AutoencoderKLCogVideoX(
        in_channels=3,
        out_channels=3,
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=LATENT_CHANNELS,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    )
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=4,
        attention_head_dim=16,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        time_embed_dim=2,
        text_embed_dim=WIDTH,
        num_layers=1,
        sample_width=2,
        sample_height=2,
        sample_frames=9,
        patch_size=2,
        temporal_compression_ratio=4,
        max_text_seq_length=226,
        use_rotary_positional_embeddings=True,
    )
    return CogVideoXPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(),
        vae=_alive(vae),
        transformer=_alive(transformer),
        scheduler=CogVideoXDDIMScheduler(
            prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
        ),
    )


PIPELINES: dict[str, Callable[[Path], Any]] = {
    "StableDiffusionPipeline": stable_diffusion,
    "AnimateDiffPipeline": animate_diff,
    "TextToVideoSDPipeline": text_to_video,
    "WanPipeline": wan,
    "LTXPipeline": ltx,
    "CogVideoXPipeline": cog_video_x,
}
"""By class name; each takes the folder of the tiny base, whose weights the first three have."""


def tiny_pipeline(name: str, base_dir: Path) -> Any:
    """A pipeline of the class `name`; equal names give equal weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline = PIPELINES[name](base_dir)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


VIDEO = tuple(PIPELINES)[1:]
"""Those that make clips."""

SIDE = 32
"""Height and width of their clips in pixels."""


def write_pipeline_base(name: str, base_dir: Path, folder: Path, **fields: Any) -> Path:
    """Write a base of the video pipeline `name` without an image model, and return `folder`.

    `fields` are further ones of its `base.yaml`.
    """
    tiny_pipeline(name, base_dir).save_pretrained(folder / "t2v")
    num_frames = 9 if name == "CogVideoXPipeline" else 5
    content: dict[str, Any] = {
        "name": "tiny",
        "t2v": "t2v",
        "clip": {
            "num_frames": num_frames,
            "height": SIDE,
            "width": SIDE,
            "fps": 8,
            "num_inference_steps": 2,
            "guidance_scale": 3.0,
        },
        "limits": {
            "num_frames": num_frames,
            "height": [SIDE, SIDE],
            "width": [SIDE, SIDE],
            "num_inference_steps": 5,
            "guidance_scale": 20.0,
        },
    }
    (folder / "base.yaml").write_text(yaml.safe_dump(content | fields, sort_keys=False))
    return folder


def _alive(module: Any) -> Any:
    """`module` with no tensor of it zero."""
    for parameter in module.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return module.eval()
