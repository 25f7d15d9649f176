"""The attention mask of a prompt, where a text encoder's config asks for one.

diffusers' pipelines mask the padding if `use_attention_mask` stands in the encoder's `config.json`.
`mask_prompts` makes a loaded encoder do so by itself, whoever calls it: unlearning, evaluation and
the exported graph.
"""

from typing import Any

import torch

from unsee.models.text.tokenizer import SpecialTokens


def mask_prompts(text_encoder: Any, tokens: SpecialTokens) -> Any:
    """Let `text_encoder` mask the padding of the ids that it is given, if its config says so.

    A mask that a caller gives is left alone, and a deep copy of the encoder masks alike. Returns
    the same encoder.
    """
    if getattr(text_encoder.config, "use_attention_mask", None):
        text_encoder.register_forward_pre_hook(
            _PromptMask(tokens.pad, tokens.eos), with_kwargs=True
        )
    return text_encoder


def prompt_mask(ids: torch.Tensor, pad: int, eos: int) -> torch.Tensor:
    """1 up to the token that ends the prompt and 0 after it: ids [B, L] -> int64 [B, L].

    Where the padding is the end-of-text token too, as in Stable Diffusion 1.x, the first of the
    trailing ones ends the prompt.
    """
    is_text = (ids != pad).long()
    follows = is_text.flip(1).cumsum(1).flip(1)  # how many tokens of text are here or later
    mask = (follows > 0).long()
    if pad != eos:
        return mask
    return torch.cat([torch.ones_like(mask[:, :1]), mask[:, :-1]], dim=1)


class _PromptMask:
    def __init__(self, pad: int, eos: int) -> None:
        self._pad, self._eos = pad, eos

    def __call__(
        self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        is_given = len(args) > 1 or kwargs.get("attention_mask") is not None
        if is_given:
            return args, kwargs
        ids = args[0] if args else kwargs["input_ids"]
        return args, {**kwargs, "attention_mask": prompt_mask(ids, self._pad, self._eos)}
