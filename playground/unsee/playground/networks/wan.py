"""The second base's networks at random initialisation, in Wan's classes, and their sizes.

Parameters of the default sizes: autoencoder 4.7 M, transformer 9.1 M, text encoder 2.9 M; in
float16 together 34 MB, where 40 is the limit. Measured on one busy core of an AMD EPYC with
avx512_bf16 and without AMX, in seconds of that core:

- autoencoder (base width 16), forward and backward of 2 clips of 9 frames: 0.6 in float32; one clip
  of 17 frames is decoded in 0.36;
- transformer (width 256, 8 layers, 64 tokens a latent frame), forward and backward of 32 stills or
  of 6 clips (5 latent frames): 1.5 and 1.3 in float32, 1.0 and 0.9 under bfloat16 autocast; a whole
  step of 96 stills with encoder and optimiser: 2.2 with bfloat16 products, 1.65 with the blocks
  compiled too.

Patches are single cells of the latents: of 8x8 cells, Wan's own 2x2 patches would leave 16 tokens a
frame, each for a sixteenth of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanTransformer3DModel
from torch import nn
from transformers import PreTrainedTokenizerBase, UMT5Config, UMT5EncoderModel

from unsee.models.spec import ClipDefaults
from unsee.playground.world.world import FRAME_SIZE

MAX_TOKENS = 64
PADDED_LENGTH = 512  # rows of the prompt's states in WanPipeline; those after the prompt are zero
FLOW_SHIFT = 2.0  # of the noise levels, in training and sampling alike
CLIP = ClipDefaults(
    num_frames=17,
    height=FRAME_SIZE,
    width=FRAME_SIZE,
    fps=8,
    num_inference_steps=16,
    guidance_scale=4.0,
)


@dataclass(frozen=True)
class WanSizes:
    """Widths, layers and channels of the three networks."""

    vae_width: int = 16
    vae_multipliers: tuple[int, int, int, int] = (1, 2, 4, 6)
    latent_channels: int = 24
    width: int = 256
    heads: int = 8
    layers: int = 8
    text_width: int = 256
    text_heads: int = 4
    text_layers: int = 4


SIZES = WanSizes()


def new_autoencoder(
    sizes: WanSizes = SIZES,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> AutoencoderKLWan:
    """Factor 8 in space and 4 in time; ``mean`` and ``std`` are of the latents' channels."""
    channels = sizes.latent_channels
    return AutoencoderKLWan(
        base_dim=sizes.vae_width,
        z_dim=channels,
        dim_mult=list(sizes.vae_multipliers),
        num_res_blocks=1,
        latents_mean=list(mean or [0.0] * channels),
        latents_std=list(std or [1.0] * channels),
    )


def new_text_encoder(
    tokenizer: PreTrainedTokenizerBase, sizes: WanSizes = SIZES
) -> UMT5EncoderModel:
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=len(tokenizer),
            d_model=sizes.text_width,
            d_kv=sizes.text_width // sizes.text_heads,
            d_ff=2 * sizes.text_width,
            num_layers=sizes.text_layers,
            num_heads=sizes.text_heads,
            dropout_rate=0.0,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def new_transformer(sizes: WanSizes = SIZES) -> WanTransformer3DModel:
    """Initialised as Wan's authors do it: the last layer is zero, the others keep variance."""
    transformer = WanTransformer3DModel(
        patch_size=(1, 1, 1),
        num_attention_heads=sizes.heads,
        attention_head_dim=sizes.width // sizes.heads,
        in_channels=sizes.latent_channels,
        out_channels=sizes.latent_channels,
        text_dim=sizes.text_width,
        freq_dim=256,
        ffn_dim=4 * sizes.width,
        num_layers=sizes.layers,
    )
    for module in transformer.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.xavier_uniform_(transformer.patch_embedding.weight.data.flatten(1))
    nn.init.zeros_(transformer.proj_out.weight)
    return transformer


def new_scheduler() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=FLOW_SHIFT)


def noise_levels(uniform: torch.Tensor) -> torch.Tensor:
    """Noise levels for numbers in 0..1, as dense as the scheduler's: shifted towards 1."""
    return FLOW_SHIFT * uniform / (1 + (FLOW_SHIFT - 1) * uniform)
