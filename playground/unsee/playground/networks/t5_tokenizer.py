"""A T5 tokenizer (unigram) trained on the captions of all languages, in transformers' own files."""

from __future__ import annotations

import math
import string
from collections import Counter
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import T5TokenizerFast

from unsee.core.files import new_folder
from unsee.playground.networks.wan import MAX_TOKENS
from unsee.playground.world.captions import caption, with_varied_case
from unsee.playground.world.languages import LANGUAGES, Language
from unsee.playground.world.world import CLIP_ODDS, random_scene

SPECIAL = PAD, EOS, UNKNOWN = "<pad>", "</s>", "<unk>"
VOCABULARY = 1024
NUM_CAPTIONS = 20_000
ACCENTED = "áéíóúüñÁÉÍÓÚÜÑ¿¡"


def training_captions(language: Language, seed: int, count: int = NUM_CAPTIONS) -> list[str]:
    rng = np.random.default_rng((seed, len(language.name), *language.name.encode()))
    scenes = (random_scene(rng, CLIP_ODDS) for _ in range(count))
    return [with_varied_case(caption(scene, rng, language), rng) for scene in scenes]


def train_unigram(texts: list[str]) -> list[tuple[str, float]]:
    """Pieces and their log-probabilities; T5's three special tokens are the first.

    The pieces are found by byte-pair encoding, which gives the same ones every time (the unigram
    trainer does not), and scored by how often they occur in the texts.
    """
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL),
        initial_alphabet=sorted({*string.printable.strip(), *ACCENTED, "▁"}),
        show_progress=False,
    )
    trained.train_from_iterator(texts, trainer)
    counts = Counter(token for text in texts for token in trained.encode(text).tokens)
    total = counts.total()
    pieces = sorted(trained.get_vocab().items(), key=lambda entry: entry[1])
    scored = [(piece, math.log(max(counts[piece], 0.5) / total)) for piece, _ in pieces]
    return [*((token, 0.0) for token in SPECIAL), *scored]


def new_tokenizer(seed: int = 0, num_captions: int = NUM_CAPTIONS) -> T5TokenizerFast:
    texts = [
        text
        for language in LANGUAGES.values()
        for text in training_captions(language, seed, num_captions)
    ]
    return T5TokenizerFast(
        vocab=train_unigram(texts),
        eos_token=EOS,
        unk_token=UNKNOWN,
        pad_token=PAD,
        extra_ids=0,
        model_max_length=MAX_TOKENS,
    )


def kept_tokenizer(folder: Path, num_captions: int = NUM_CAPTIONS) -> T5TokenizerFast:
    """The tokenizer in ``folder``, trained and kept there first if there is none."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        tokenizer = new_tokenizer(num_captions=num_captions)
        with new_folder(folder) as partial:
            tokenizer.save_pretrained(partial)
    return T5TokenizerFast.from_pretrained(folder)
