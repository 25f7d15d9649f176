"""A CLIP tokenizer trained on the captions, in CLIP's own file formats."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from unsee.playground.networks.models import MAX_TOKENS
from unsee.playground.world.captions import caption
from unsee.playground.world.world import CLIP_ODDS, random_scene

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
VOCABULARY = 2048
NUM_CAPTIONS = 40_000


def training_captions(seed: int, count: int = NUM_CAPTIONS) -> list[str]:
    rng = np.random.default_rng(seed)
    return [caption(random_scene(rng, CLIP_ODDS), rng) for _ in range(count)]


def train_bpe(texts: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a byte-level BPE in CLIP's conventions.

    CLIP's vocabulary is: the 256 byte symbols, the same with ``</w>``, the merges in
    order, then the two special tokens. With every byte symbol inside, any text encodes.
    """
    scratch = CLIPTokenizer(model_max_length=MAX_TOKENS).backend_tokenizer
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    trained.normalizer = scratch.normalizer
    trained.pre_tokenizer = scratch.pre_tokenizer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    trained.train_from_iterator(texts, trainer)
    merges = [tuple(pair) for pair in json.loads(trained.to_str())["model"]["merges"]]
    symbols = [*alphabet, *(f"{symbol}</w>" for symbol in alphabet)]
    tokens = dict.fromkeys([*symbols, *("".join(pair) for pair in merges), BOS, EOS])
    return {token: index for index, token in enumerate(tokens)}, merges


def new_tokenizer(seed: int = 0) -> CLIPTokenizer:
    vocabulary, merges = train_bpe(training_captions(seed))
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,
        unk_token=EOS,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=EOS,
        model_max_length=MAX_TOKENS,
    )


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Writes tokenizer.json and configs, and vocab.json and merges.txt beside them."""
    tokenizer.save_pretrained(folder)
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    vocabulary = json.dumps(model["vocab"], ensure_ascii=False)
    (folder / "vocab.json").write_text(vocabulary, encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
