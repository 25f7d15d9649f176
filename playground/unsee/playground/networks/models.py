"""The base's networks at random initialisation, and their sizes.

Every class is the diffusers or transformers class that the full-size models use.
"""

from __future__ import annotations

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel, UNet3DConditionModel
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerBase

from unsee.playground.world.world import FRAME_SIZE

VAE_FACTOR = 8
LATENT_CHANNELS = 12
LATENT_SIZE = FRAME_SIZE // VAE_FACTOR
MAX_TOKENS = 48
TEXT_WIDTH = 256
UNET_WIDTHS = (96, 160)
HEAD_WIDTH = 16


def new_autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 96, 128),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=FRAME_SIZE,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


def new_text_encoder(vocab_size: int, bos_token_id: int, eos_token_id: int) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocab_size,
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            hidden_act="quick_gelu",
            bos_token_id=bos_token_id,
            eos_token_id=eos_token_id,
            pad_token_id=eos_token_id,
        )
    )


def new_image_unet() -> UNet2DConditionModel:
    # This class reads attention_head_dim as the *number* of heads, the video UNet as a width.
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=UNET_WIDTHS,
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=tuple(width // HEAD_WIDTH for width in UNET_WIDTHS),
        use_linear_projection=True,
    )


def new_video_unet() -> UNet3DConditionModel:
    return UNet3DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock3D", "CrossAttnDownBlock3D"),
        up_block_types=("CrossAttnUpBlock3D", "UpBlock3D"),
        block_out_channels=UNET_WIDTHS,
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=HEAD_WIDTH,
    )


def new_scheduler() -> DDIMScheduler:
    """Zero terminal SNR, arXiv 2305.08891: v-prediction and trailing time steps."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=0,
    )


def inflate(image_unet: UNet2DConditionModel, video_unet: UNet3DConditionModel) -> int:
    """Copies the spatial weights and silences the temporal layers.

    Returns the number of tensors copied. Afterwards the video UNet's output for a clip
    equals the image UNet's for each of its frames.
    """
    source = image_unet.state_dict()
    target = video_unet.state_dict()
    shared = {k: v for k, v in source.items() if k in target and target[k].shape == v.shape}
    missing = source.keys() - shared.keys()
    if missing:
        raise ValueError(f"no place in the video UNet for {sorted(missing)[:5]}")
    video_unet.load_state_dict(shared, strict=False)
    # Temporal convolutions start at zero by themselves; only their last layer may, because
    # a zero norm before it would leave them without a gradient for ever.
    for module in video_unet.modules():
        if isinstance(module, TransformerTemporalModel):
            nn.init.zeros_(module.proj_out.weight)
            nn.init.zeros_(module.proj_out.bias)
    return len(shared)


def new_text_encoder_for(tokenizer: PreTrainedTokenizerBase) -> CLIPTextModel:
    return new_text_encoder(len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id)
