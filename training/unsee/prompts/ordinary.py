"""Ordinary prompts: what stands for the prompts of a base that brings none.

`ordinary.yaml` holds words and sentence forms of everyday scenes, in English and a little in other
languages. Nothing here knows what the callers of a base ask, or what its model can show.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from random import Random
from typing import Any

from unsee.core.validation import ClosedModel
from unsee.core.yaml_file import read_yaml
from unsee.models.base import Base
from unsee.models.quiet import quiet_libraries

FEWEST_READ = 500
"""Where a tokenizer reads fewer ordinary prompts than this, none of them is used."""
_BYTES_A_TOKEN = 3
"""A line with fewer bytes of UTF-8 a token is spelled: the vocabulary lacks its words. English has
4 to 5 in the vocabulary of CLIP, Chinese there has one."""
_FILE = Path(__file__).with_name("ordinary.yaml")
_SLOT = re.compile(r"\{(\w+)\}")


class _Language(ClosedModel):
    """Forms with slots, the words that fill them, and how many lines are drawn."""

    draws: int
    forms: tuple[str, ...]
    words: dict[str, tuple[str, ...]]

    def lines(self, random: Random) -> Iterator[str]:
        for _ in range(self.draws):
            yield _as_written(self._filled(_one_of(self.forms, random), random))

    def _filled(self, form: str, random: Random) -> str:
        return _SLOT.sub(
            lambda slot: self._filled(_one_of(self.words[slot[1]], random), random), form
        )


@cache
def ordinary_prompts(seed: int = 0) -> tuple[str, ...]:
    """Some thousands of distinct prompts in mixed order, the same for the same seed."""
    languages = read_yaml(_FILE, "the ordinary prompts")
    random = Random(seed)
    drawn = (
        line
        for content in languages.values()
        for line in _Language.model_validate(content).lines(random)
    )
    return tuple(sorted(dict.fromkeys(drawn), key=lambda _: random.random()))


def asked_prompts(base: Base) -> tuple[str, ...]:
    """What people ask of this base: its prompts file or, if it names none, ordinary prompts.

    Of those, the ones that fit and that its tokenizer reads in words it knows; none at all where
    they are fewer than `FEWEST_READ`. Raises as `Base.prompts`.
    """
    if base.spec.prompts is not None:
        return base.prompts()
    return _read_by(base.tokenizer(), base.prompt_frame().room)


@lru_cache(maxsize=4)
def _read_by(tokenizer: Any, room: int) -> tuple[str, ...]:
    prompts = ordinary_prompts()
    with quiet_libraries():
        rows = tokenizer(list(prompts), add_special_tokens=False).input_ids
    read = tuple(
        prompt
        for prompt, ids in zip(prompts, rows, strict=True)
        if len(ids) <= room
        and tokenizer.unk_token_id not in ids
        and len(ids) * _BYTES_A_TOKEN <= len(prompt.encode())
    )
    return read if len(read) >= FEWEST_READ else ()


def _as_written(line: str) -> str:
    """`line` with its articles and, if it is a sentence, capitals."""
    line = re.sub(r"\ba\(n\) (?=([aeiou])?)", lambda found: "an " if found[1] else "a ", line)
    if line.endswith("."):
        line = re.sub(r"(?:^|(?<=\. ))\w", lambda found: found[0].upper(), line)
    return line


def _one_of(texts: Sequence[str], random: Random) -> str:
    """One of `texts`; `random.random` alone gives the same numbers in every version of Python."""
    return texts[int(random.random() * len(texts))]
