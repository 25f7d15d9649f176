"""The tokens that a prompt search may use: whole words that are not the concept's names.

MMA-Diffusion (Yang et al., arXiv 2311.17516, section 3) masks the sensitive words out of the
candidates in the same way.
"""

from dataclasses import dataclass

import torch

from unsee.core.errors import InputError
from unsee.core.policy import Concept
from unsee.models.base import Base
from unsee.models.quiet import quiet_libraries

_SHORTEST_PART = 3


@dataclass(frozen=True)
class Vocabulary:
    """Token `ids` [V] int64 and the `words` that they are read from, in the same order."""

    ids: torch.Tensor
    words: tuple[str, ...]

    def text(self, chosen: torch.Tensor) -> str:
        """The text whose tokens are `ids[chosen]`, `chosen` [k] int64."""
        return " ".join(self.words[index] for index in chosen.tolist())


def search_vocabulary(base: Base, concept: Concept) -> Vocabulary:
    """Every token that a tokenizer would make of its own text, without the concept's names.

    Left out: special tokens, the tokens of the names and aliases, and words (of three letters or
    more) that contain a word of a name or are part of one. Raises `InputError` if none is left.
    """
    tokenizer = base.tokenizer()
    names = [name.lower() for name in (concept.name, *concept.aliases)]
    with quiet_libraries():
        texts = tokenizer.batch_decode([[index] for index in range(len(tokenizer))])
        words = [text.strip() for text in texts]
        rows = tokenizer(words, add_special_tokens=False).input_ids
        banned = {index for row in tokenizer(names).input_ids for index in row}
    banned.update(tokenizer.all_special_ids)
    kept = [
        index
        for index, (word, row) in enumerate(zip(words, rows, strict=True))
        if list(row) == [index]
        and index not in banned
        and word.isprintable()
        and not _overlaps(word.lower(), names)
    ]
    if not kept:
        raise InputError(
            f"the tokenizer of the base {base.name!r} has no whole word besides "
            f"{concept.name!r}; a prompt search is not possible"
        )
    return Vocabulary(torch.tensor(kept), tuple(words[index] for index in kept))


def _overlaps(word: str, names: list[str]) -> bool:
    return any(
        part in word or (len(word) >= _SHORTEST_PART and word in part)
        for name in names
        for part in name.split()
        if len(part) >= _SHORTEST_PART
    )
