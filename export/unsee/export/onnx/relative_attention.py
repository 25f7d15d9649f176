"""UMT5's attention in a form that can be exported for prompts of any length."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

_CLASS = "UMT5Attention"


@contextmanager
def of_any_length(module: nn.Module) -> Iterator[None]:
    """Let the self-attentions of UMT5 in `module` name no length while they are traced.

    That of transformers 5 finds the length again from the number of values, which torch.export can
    do for one length only. What is computed is the same; at the end of the block nothing is left.
    """
    attentions = [each for each in module.modules() if type(each).__name__ == _CLASS]
    for each in attentions:
        each.forward = MethodType(_attend, each)
    try:
        yield
    finally:
        for each in attentions:
            del each.forward


def _attend(
    attention: Any, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
) -> tuple[Tensor, None]:
    """What `UMT5Attention.forward` gives in an encoder: [B, L, D] -> [B, L, D], and no weights.

    `attention_mask` bool [B, 1, L, L] is True where it may look.
    """
    heads = attention.n_heads, attention.key_value_proj_dim
    queries, keys, values = (
        project(hidden_states).unflatten(-1, heads).transpose(1, 2)
        for project in (attention.q, attention.k, attention.v)
    )
    length = hidden_states.shape[1]
    bias = attention.compute_bias(length, length)
    if attention_mask is not None:
        bias = bias.masked_fill(~attention_mask, torch.finfo(bias.dtype).min)
    mixed = nn.functional.scaled_dot_product_attention(
        queries, keys, values, attn_mask=bias, scale=attention.scaling
    )
    output: Tensor = attention.o(mixed.transpose(1, 2).flatten(2))
    return output, None
