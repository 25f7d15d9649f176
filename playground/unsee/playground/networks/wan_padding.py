"""A prompt's padding for Wan's transformer, without computing it row by row.

WanPipeline pads the states of a prompt with rows of zeros up to a length (512 unless its caller
says otherwise), and the cross-attention sees them all. Rows that are equal have equal keys and
values, so attending to n of them is attending to one whose score is larger by log(n).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from torch import Tensor


class CountedPadding:
    """Cross-attention that adds ``bias`` [L] to the scores of the context's rows, if it is set."""

    def __init__(self) -> None:
        self.attend = WanAttnProcessor()
        self.bias: Tensor | None = None

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        bias = attention_mask if self.bias is None else self.bias[None, None, None]
        attended: Tensor = self.attend(attn, hidden_states, encoder_hidden_states, bias, rotary_emb)
        return attended


def count_padding(transformer: WanTransformer3DModel) -> CountedPadding:
    """Gives all cross-attentions of the transformer one processor, and returns it."""
    processor = CountedPadding()
    for block in transformer.blocks:
        block.attn2.processor = processor
    return processor


def short_context(states: Tensor, mask: Tensor, padded_length: int) -> tuple[Tensor, Tensor]:
    """The context [N, L + 1, D] and bias [L + 1] that stand for a padding to ``padded_length``.

    Args:
        states: the encoder's, [N, L, D] with L < ``padded_length``; rows where ``mask`` [N, L] is 0
            become zero, as in WanPipeline.
    """
    rows = states.shape[1]
    zeroed = states * mask[..., None].to(states.dtype)
    context = torch.cat([zeroed, torch.zeros_like(zeroed[:, :1])], dim=1)
    bias = torch.zeros(rows + 1)
    bias[-1] = math.log(padded_length - rows)
    return context, bias
