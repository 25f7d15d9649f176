"""Prompts to tokens, as the pipeline's own tokenizer gives them; never truncates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from text_to_video.base import Base
from text_to_video.prompt_text import cleaned
from text_to_video.refusal import Refusal

MAX_CHARACTERS_PER_TOKEN = 64  # longer text is refused before the tokenizer spends time on it


@dataclass(frozen=True)
class Tokens:
    """Tokenised texts, one a row.

    Args:
        input_ids: INT64 [B, L].
        attention_mask: INT64 [B, L], 1 where the text encoder may look.
    """

    input_ids: npt.NDArray[np.int64]
    attention_mask: npt.NDArray[np.int64]

    def last(self) -> Tokens:
        """The last row alone."""
        return Tokens(self.input_ids[-1:], self.attention_mask[-1:])


class PromptTokenizer:
    """The base's tokenizer (`assets/tokenizer.json`), which frames and pads as `base` has it.

    The padding token is the one that the file's own padding section names; without one it is the
    token that ends every text, as in Stable Diffusion 1.x.
    """

    def __init__(self, path: Path, base: Base) -> None:
        self._tokenizer: Any = Tokenizer.from_file(str(path))
        self._length = base.limits.prompt_tokens
        self._prompt = base.prompt
        padding = self._tokenizer.padding
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._special_tokens = len(self._tokenizer.encode("").ids)
        self._pad_id: int = padding["pad_id"] if padding else self._tokenizer.encode("").ids[-1]

    def encode(self, **texts: str) -> Tokens:
        """The tokens of each text, padded to the base's length or, where its denoiser reads zeros
        at the padding, to the longest of them; raises Refusal naming a text that is too long."""
        ids = [self._ids(name, text) for name, text in texts.items()]
        is_cut = self._prompt.padding == "zeros"
        length = max(map(len, ids)) if is_cut else self._length
        rows = np.full((len(ids), length), self._pad_id, np.int64)
        mask = np.full_like(rows, not self._prompt.masks_padding)
        for row, seen, own in zip(rows, mask, ids, strict=True):
            row[: len(own)] = own
            seen[: len(own)] = 1
        return Tokens(rows, mask)

    def _ids(self, name: str, text: str) -> list[int]:
        room = self._length - self._special_tokens
        if len(text) > MAX_CHARACTERS_PER_TOKEN * self._length:
            raise Refusal(
                "INVALID_ARGUMENT",
                f"{name} has {len(text)} characters, far more than fit into {room} tokens",
            )
        ids: list[int] = self._tokenizer.encode(cleaned(text) if self._prompt.cleans else text).ids
        if len(ids) > self._length:
            raise Refusal(
                "INVALID_ARGUMENT",
                f"{name} has {len(ids) - self._special_tokens} tokens; at most {room} fit",
            )
        return ids
