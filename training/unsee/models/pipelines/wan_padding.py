"""A prompt's padding for Wan's transformer, without computing it row by row.

WanPipeline pads the states of a prompt with rows of zeros up to a length (512 unless its caller
says otherwise), and the cross-attention sees them all. Rows that are equal have equal keys and
values, so attending to n of them is attending to one whose score is larger by log(n).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_FEWEST_ROWS = 32


class CountedPadding:
    """Cross-attention that adds ``bias`` [L] to the scores of the context's rows, if it is set.

    Each head is given its own, because OpenVINO 2026.4 in bfloat16 misreads a mask [1, 1, 1, L].
    """

    def __init__(self) -> None:
        from diffusers.models.transformers.transformer_wan import WanAttnProcessor

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
        bias = attention_mask
        if self.bias is not None:
            bias = self.bias.expand(1, attn.heads, 1, -1)
        attended: Tensor = self.attend(attn, hidden_states, encoder_hidden_states, bias, rotary_emb)
        return attended


def count_padding(transformer: Any) -> CountedPadding:
    """Gives all cross-attentions of the transformer one processor, and returns it."""
    processor = CountedPadding()
    for block in transformer.blocks:
        block.attn2.processor = processor
    return processor


def leave_out_padding(transformer: Any) -> None:
    """From now on rows at the end that are zero in every prompt of a call are computed as one.

    Acts on ``encoder_hidden_states`` [N, L, D] that is given by its name, as WanPipeline does, and
    changes nothing but rounding. 32, 64, ... rows are kept, so that a compiled block sees few
    lengths.
    """
    processor = count_padding(transformer)

    def shorten(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        context = kwargs["encoder_hidden_states"]
        length = context.shape[1]
        places = context.ne(0).any(dim=2).any(dim=0).nonzero()
        used = 1 + int(places.max()) if len(places) else 0
        short = context[:, : min(max(_FEWEST_ROWS, 1 << used.bit_length()), length)]
        processor.bias = padding_bias(short, length)
        return args, kwargs | {"encoder_hidden_states": short}

    transformer.register_forward_pre_hook(shorten, with_kwargs=True)


def padding_bias(context: Tensor, padded_length: int) -> Tensor:
    """The bias [L], float32, with which the last row of ``context`` [N, L, D] stands for more.

    They are its equals, up to ``padded_length`` rows in all; a context of so many has a bias of
    zeros. L may be symbolic.
    """
    places = torch.arange(context.shape[1], device=context.device)
    counts = torch.where(places == context.shape[1] - 1, padded_length - places, 1)
    return counts.to(torch.float32).log()


def short_context(states: Tensor, mask: Tensor, padded_length: int) -> tuple[Tensor, Tensor]:
    """The context [N, L + 1, D] and bias [L + 1] that stand for a padding to ``padded_length``.

    Args:
        states: the encoder's, [N, L, D] with L < ``padded_length``; rows where ``mask`` [N, L] is 0
            become zero, as in WanPipeline.
    """
    zeroed = states * mask[..., None].to(states.dtype)
    context = torch.cat([zeroed, torch.zeros_like(zeroed[:, :1])], dim=1)
    return context, padding_bias(context, padded_length)
