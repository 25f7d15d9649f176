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
from encoder_fakes import WIDTH, new_t5, t5_tokenizer
from transformers import UMT5EncoderModel

from fakes import LATENT_CHANNELS, alive, clips
from motion_fakes import tiny_adapter


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
        text_encoder=alive(new_t5(UMT5EncoderModel)),
        vae=alive(vae),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=alive(transformer),
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
        vae=alive(vae),
        text_encoder=alive(new_t5()),
        tokenizer=t5_tokenizer(),
        transformer=alive(transformer),
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
        text_encoder=alive(new_t5()),
        vae=alive(vae),
        transformer=alive(transformer),
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
    spec = {"name": "tiny", "t2v": "t2v"}
    spec |= clips(
        SIDE, num_frames, num_frames=num_frames, num_inference_steps=2, guidance_scale=3.0
    )
    (folder / "base.yaml").write_text(yaml.safe_dump(spec | fields, sort_keys=False))
    return folder


def write_visible_wan_base(folder: Path) -> Path:
    """Write a base of Wan's kind whose clips show more than a few levels of grey."""
    limits = {"num_frames": 9, "height": [SIDE, 48], "width": [SIDE, 48]}
    limits |= {"num_inference_steps": 5, "guidance_scale": 20.0}
    write_pipeline_base("WanPipeline", Path(), folder, limits=limits)
    visible_wan_pipeline().vae.save_pretrained(folder / "t2v" / "vae")
    return folder


def visible_wan_pipeline() -> Any:
    """The pipeline of that base."""
    pipeline = tiny_pipeline("WanPipeline", Path())
    with torch.no_grad():
        pipeline.vae.decoder.conv_out.weight.mul_(8)
    return pipeline
