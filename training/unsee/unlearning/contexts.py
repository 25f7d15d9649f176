"""The prompts that an edit is measured on: those that name the concept, and those that do not.

They come from the templates and from what people ask of this base (`asked_prompts`); words drawn at
random around them stand for everything else that people may write.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from unsee.core.policy import Concept
from unsee.models.base import Base
from unsee.models.encoders.frame import PromptFrame
from unsee.models.quiet import quiet_libraries
from unsee.prompts.naming import Names, check_known, parted
from unsee.prompts.ordinary import asked_prompts
from unsee.prompts.templates import training_prompts
from unsee.prompts.tokens import fitting_prompts, parted_ids
from unsee.unlearning.anchors import Naming

_SHARE_PREFIXED = 0.5
_SHARE_FOLLOWED = 0.15
_MOST_WORDS = 6
_SHARE_RANDOM = 0.07
_SHARE_RANDOM_ORDINARY = 0.5
"""Ordinary prompts may be far from what is asked of a base: as many are random words."""
_FEWEST_OWN = 20


@dataclass(frozen=True)
class Contexts:
    """Token ids around a concept: `named` prompts, and whole `kept` prompts without it."""

    named: tuple[Naming, ...]
    kept: tuple[tuple[int, ...], ...]
    words: tuple[int, ...]
    frame: PromptFrame
    share_random: float = _SHARE_RANDOM

    def draw_named(self, count: int, generator: torch.Generator) -> list[Naming]:
        """`count` prompts that name the concept, some with random words before or after them."""
        drawn = []
        for _ in range(count):
            naming = self.named[_below(len(self.named), generator)]
            before, after = naming.before, naming.after
            if _chance(_SHARE_PREFIXED, generator):
                before = (*self._random_words(generator), *before)
            if _chance(_SHARE_FOLLOWED, generator):
                after = (*after, *self._random_words(generator))
            room = max(self.frame.room - len(naming.name) - len(after), 0)
            drawn.append(Naming(before[max(len(before) - room, 0) :], naming.name, after))
        return drawn

    def draw_kept(self, count: int, generator: torch.Generator) -> list[list[int]]:
        """`count` framed prompts without the concept; the first is the empty one."""
        rows: list[Sequence[int]] = [()]
        while len(rows) < count:
            is_random = not self.kept or _chance(self.share_random, generator)
            rows.append(
                self._random_words(generator)
                if is_random
                else self.kept[_below(len(self.kept), generator)]
            )
        return [self.frame.framed(row) for row in rows]

    def _random_words(self, generator: torch.Generator) -> tuple[int, ...]:
        count = 1 + _below(_MOST_WORDS, generator)
        return tuple(self.words[_below(len(self.words), generator)] for _ in range(count))


def contexts_of(base: Base, concept: Concept, others: Sequence[Concept] = ()) -> Contexts:
    """The contexts of `concept` on `base`.

    Prompts that name one of `others` are not kept either, and those with a near name (see
    `naming`) are neither kept nor forgotten.

    Raises `InputError` if the tokenizer knows nothing of a name, or no prompt that names it fits.
    """
    check_known(base, concept)
    names = [Names.of(base, one) for one in (concept, *others)]
    own, _, kept = parted(asked_prompts(base), names)
    templates = list(training_prompts(names[0].concept))
    if len(own) < _FEWEST_OWN:
        own += [f"{other}, {plain}" for other, plain in zip(kept, templates * 8, strict=False)]
    named = tuple(fitting_prompts(base, [*templates, *own]))
    frame = base.prompt_frame()
    return Contexts(
        named=tuple(_naming(base, prompt, names[0]) for prompt in named),
        kept=tuple(tuple(ids) for ids in _word_ids(base, map(frame.text, kept))),
        words=_words(base, concept),
        frame=frame,
        share_random=_SHARE_RANDOM_ORDINARY if base.spec.prompts is None else _SHARE_RANDOM,
    )


def word_ids(base: Base, text: str) -> tuple[int, ...]:
    """The token ids of `text` without the special ones."""
    return tuple(_word_ids(base, [text])[0])


def _word_ids(base: Base, texts: Iterable[str]) -> list[list[int]]:
    listed = list(texts)
    if not listed:
        return []
    with quiet_libraries():
        return [list(row) for row in base.tokenizer()(listed, add_special_tokens=False).input_ids]


def _naming(base: Base, prompt: str, names: Names) -> Naming:
    parts = names.split(prompt)
    assert parts is not None
    return Naming(*parted_ids(base, *parts))


def _words(base: Base, concept: Concept) -> tuple[int, ...]:
    """Every token of the vocabulary that is neither special nor one of the concept's names."""
    tokenizer = base.tokenizer()
    names = _word_ids(base, [concept.name, *concept.aliases])
    banned = {index for row in names for index in row} | set(tokenizer.all_special_ids)
    return tuple(index for index in range(len(tokenizer)) if index not in banned)


def _below(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))


def _chance(share: float, generator: torch.Generator) -> bool:
    return bool(torch.rand((), generator=generator) < share)
