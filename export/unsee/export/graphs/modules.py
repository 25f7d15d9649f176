"""PyTorch modules with exactly the inputs and outputs of the exported graphs.

Each holds one model of diffusers or transformers; none knows names, sizes or ONNX. The borders are
float32 whatever the precision of the model's weights: the casts are part of the graph.
"""

from typing import Any

import torch
from torch import Tensor, nn

from unsee.deltas.edit import EditedNorm, with_the_same_weights
from unsee.models.pipelines.wan_padding import count_padding, padding_bias


class EncoderModule(nn.Module):
    """`input_ids`, `attention_mask` int64 [B, L] -> `last_hidden_state` float32 [B, L, D]."""

    def __init__(self, text_encoder: Any) -> None:
        super().__init__()
        self.text_encoder = text_encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        said = self.text_encoder(input_ids=input_ids, attention_mask=attention_mask)
        hidden: Tensor = said.last_hidden_state
        return hidden.to(torch.float32)


class EditModule(nn.Module):
    """States float32 [B, L, D], `attention_mask` int64 [B, L] -> embeddings float32 [B, L, D]."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, states: Tensor, attention_mask: Tensor) -> Tensor:
        edits = isinstance(self.norm, EditedNorm)
        embeds: Tensor = self.norm(states, attention_mask) if edits else self.norm(states)
        return embeds


class VideoUNetModule(nn.Module):
    """`sample` [B, C, F, h, w], `timestep` [B], `encoder_hidden_states` [B, L, D], float32.

    `timestep` is never cast: the models take its sines in float32, and half precision cannot tell
    the timesteps 999 and 999.25 apart.
    """

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        dtype = self.unet.dtype
        embeddings = self._embeddings(encoder_hidden_states.to(dtype), sample.shape[2])
        prediction: Tensor = self.unet(sample.to(dtype), timestep, embeddings).sample
        return prediction.to(torch.float32)

    def _embeddings(self, embeddings: Tensor, num_frames: int) -> Tensor:
        return embeddings


class MotionUNetModule(VideoUNetModule):
    """As `VideoUNetModule`, for `UNetMotionModel`, which wants the embeddings of every frame.

    They are [B * F, L, D], the frames of a row together, as `AnimateDiffPipeline` repeats them.
    """

    def _embeddings(self, embeddings: Tensor, num_frames: int) -> Tensor:
        rows, length, width = embeddings.shape
        repeated = embeddings[:, None].expand(rows, num_frames, length, width)
        return repeated.reshape(rows * num_frames, length, width)


class VideoTransformerModule(nn.Module):
    """As `VideoUNetModule`, for a transformer over patches of latents.

    `timestep` is a share of the schedule times its length, and is never cast either. The last row
    of the embeddings stands for all that are its equals up to `padded_length` rows.
    """

    def __init__(self, transformer: Any, padded_length: int) -> None:
        super().__init__()
        self.transformer = with_the_same_weights(transformer)  # whose attention is another
        self.padding = count_padding(self.transformer)
        self.padded_length = padded_length

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        dtype = self.transformer.dtype
        self.padding.bias = padding_bias(encoder_hidden_states, self.padded_length).to(dtype)
        prediction: Tensor = self.transformer(
            hidden_states=sample.to(dtype),
            timestep=timestep,
            encoder_hidden_states=encoder_hidden_states.to(dtype),
        ).sample
        return prediction.to(torch.float32)


class VAEDecoderModule(nn.Module):
    """`latents` float32 [B, C, F, h, w] -> `frames` uint8 [B, F, H, W, 3]."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae
        self.scaling_factor = vae.config.scaling_factor

    def forward(self, latents: Tensor) -> Tensor:
        batch, channels, frames, height, width = latents.shape
        images = latents.permute(0, 2, 1, 3, 4).reshape(-1, channels, height, width)
        images = images / self.scaling_factor
        pixels = self.vae.decode(images.to(self.vae.dtype), return_dict=False)[0]
        rgb_last = to_levels(pixels).permute(0, 2, 3, 1)
        return rgb_last.reshape(batch, frames, *rgb_last.shape[1:])


def to_levels(pixels: Tensor) -> Tensor:
    """Numbers in -1..1, clamped, as uint8 levels of the same shape."""
    return ((pixels.to(torch.float32) / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
