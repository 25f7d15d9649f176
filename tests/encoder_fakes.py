"""Tiny text encoders of every kind that can be edited, with tokenizers that are built here."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
)

WIDTH = 32
LENGTH = 48
LAYERS = 2


@cache
def clip_tokenizer() -> CLIPTokenizer:
    """A token for each letter, with and without a space behind it."""
    symbols = sorted(ByteLevel.alphabet())
    tokens = [*symbols, *(f"{symbol}</w>" for symbol in symbols)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=LENGTH)


@cache
def t5_tokenizer() -> T5TokenizerFast:
    """A token for each printable sign and for a small letter that begins a word; case is kept."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    signs = [("▁", -3.0), *((sign, -5.0) for sign in string.printable.strip())]
    words = [(f"▁{letter}", -4.0) for letter in string.ascii_lowercase]
    return T5TokenizerFast(vocab=[*special, *signs, *words], extra_ids=0, model_max_length=LENGTH)


def new_clip(kind: type[Any] = CLIPTextModel, **config: Any) -> Any:
    """A random encoder of CLIP's kind, from torch's global generator."""
    tokenizer = clip_tokenizer()
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "projection_dim": WIDTH // 2,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "max_position_embeddings": LENGTH,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return kind(CLIPTextConfig(**{**shape, **config})).eval()


def new_t5(kind: type[Any] = T5EncoderModel, **config: Any) -> Any:
    """A random encoder of T5's kind, from torch's global generator."""
    tokenizer = t5_tokenizer()
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "d_model": WIDTH,
        "d_kv": WIDTH // 4,
        "d_ff": 2 * WIDTH,
        "num_layers": LAYERS,
        "num_heads": 4,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "feed_forward_proj": "gated-gelu",
        "dropout_rate": 0.0,
    }
    make = UMT5Config if kind is UMT5EncoderModel else T5Config
    return kind(make(**{**shape, **config})).eval()


@dataclass(frozen=True)
class Kind:
    """A class of text encoders: how a tiny one is made, its tokenizer, its published size."""

    new: Callable[..., Any]
    tokenizer: Callable[[], Any]
    full_size: Mapping[str, Any]
    millions: float
    trained_millions: float

    def made(self, seed: int = 0, **config: Any) -> Any:
        """The tiny encoder of `seed`; its final norm has weights that differ from position to
        position."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            encoder = self.new(**config)
            for name, parameter in encoder.named_parameters():
                if "final_layer_norm" in name:
                    parameter.add_(0.3 * torch.randn(parameter.shape))
        return encoder


_VIT_L = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "projection_dim": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
}
_VIT_BIG_G = _VIT_L | {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "projection_dim": 1280,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
}
_XXL = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}

KINDS: dict[str, Kind] = {
    "CLIPTextModel": Kind(new_clip, clip_tokenizer, _VIT_L, 123.1, 59.0),
    "CLIPTextModelWithProjection": Kind(
        lambda **config: new_clip(CLIPTextModelWithProjection, **config),
        clip_tokenizer,
        _VIT_BIG_G,
        694.7,
        426.2,
    ),
    "T5EncoderModel": Kind(new_t5, t5_tokenizer, _XXL | {"vocab_size": 32128}, 4762.3, 3087.0),
    "UMT5EncoderModel": Kind(
        lambda **config: new_t5(UMT5EncoderModel, **config),
        t5_tokenizer,
        _XXL | {"vocab_size": 256384},
        5680.9,
        3087.0,
    ),
}
