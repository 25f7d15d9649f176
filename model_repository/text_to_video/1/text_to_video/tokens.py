"""Prompts to tokens, as CLIPTokenizer with `padding="max_length"` does; never truncates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

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
    """The base's tokenizer (`assets/tokenizer.json`), padding to the encoder's fixed length L.

    `masks_padding` says whether the mask hides the padding; else it hides nothing.

    The padding token is the one that the file's own padding section names; without one it is the
    token that ends every text, as in Stable Diffusion 1.x.
    """

    def __init__(self, path: Path, length: int, masks_padding: bool) -> None:
        self._tokenizer: Any = Tokenizer.from_file(str(path))
        self._length = length
        self._masks_padding = masks_padding
        padding = self._tokenizer.padding
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._special_tokens = len(self._tokenizer.encode("").ids)
        self._pad_id: int = padding["pad_id"] if padding else self._tokenizer.encode("").ids[-1]

    def encode(self, **texts: str) -> Tokens:
        """The tokens of each text; raises Refusal naming a text that is too long."""
        rows = np.full((len(texts), self._length), self._pad_id, np.int64)
        mask = np.full_like(rows, not self._masks_padding)
        room = self._length - self._special_tokens
        for row, seen, (name, text) in zip(rows, mask, texts.items(), strict=True):
            if len(text) > MAX_CHARACTERS_PER_TOKEN * self._length:
                raise Refusal(
                    "INVALID_ARGUMENT",
                    f"{name} has {len(text)} characters, far more than fit into {room} tokens",
                )
            ids = self._tokenizer.encode(text).ids
            if len(ids) > self._length:
                raise Refusal(
                    "INVALID_ARGUMENT",
                    f"{name} has {len(ids) - self._special_tokens} tokens; at most {room} fit",
                )
            row[: len(ids)] = ids
            seen[: len(ids)] = 1
        return Tokens(rows, mask)
