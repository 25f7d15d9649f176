"""Ordinary prompts: what the grammar yields, and which lines of it a base is measured on."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from unsee.prompts import ordinary
from unsee.prompts.ordinary import asked_prompts, ordinary_prompts

DATA = Path(ordinary.__file__).with_name("ordinary.yaml")
BASES = Path(__file__).parents[3] / "bases"


@pytest.mark.parametrize("seed", [0, 1, 99])
def test_every_line_is_a_prompt(seed: int) -> None:
    prompts = ordinary_prompts(seed)
    assert prompts == ordinary_prompts.__wrapped__(seed)
    assert len({prompt.casefold() for prompt in prompts}) == len(prompts) > 4000
    for prompt in prompts:
        assert prompt
        assert prompt == " ".join(prompt.split())
        assert not set(prompt) & set("{}()[]|_")
        assert not re.search(r"(?<!junto )\ba [aeiou]\w|\ban? an?\b|[,.] ?[,.]", prompt)
        assert len(re.findall(r"\w+|[^\w\s]", prompt)) <= 50  # CLIP has 75 tokens for them
        assert not prompt.endswith(".") or not re.search(r"(^|\. )[a-zà-ÿ]", prompt)


def test_another_seed_gives_other_lines() -> None:
    first, other = set(ordinary_prompts(0)), set(ordinary_prompts(1))
    assert len(first & other) < len(first) / 2


def test_every_list_of_words_is_used_by_its_language() -> None:
    for name, language in yaml.safe_load(DATA.read_text(encoding="utf-8")).items():
        words = language["words"]
        texts = [*language["forms"], *(text for texts in words.values() for text in texts)]
        assert {slot for text in texts for slot in re.findall(r"\{(\w+)\}", text)} == set(words)
        assert all(isinstance(text, str) for text in texts), name


def test_there_are_prompts_in_other_languages() -> None:
    prompts = ordinary_prompts()
    for words in ("ein Kind", "una doctora", "un renard", "一只小狗"):
        assert any(words in prompt for prompt in prompts)
    assert sum(not prompt.isascii() for prompt in prompts) > 200


class _Reader:
    """A tokenizer of whole words, or of letters, to which some signs are unknown."""

    unk_token_id = 0

    def __init__(self, pattern: str, unknown: str) -> None:
        self._pattern, self._unknown = pattern, set(unknown)

    def __call__(self, texts: Sequence[str], **_: Any) -> SimpleNamespace:
        found = [re.findall(self._pattern, text) for text in texts]
        rows = [[0 if set(token) & self._unknown else 1 for token in tokens] for tokens in found]
        return SimpleNamespace(input_ids=rows)


def _base(tokenizer: _Reader, room: int) -> Any:
    return SimpleNamespace(
        spec=SimpleNamespace(prompts=None),
        tokenizer=lambda: tokenizer,
        prompt_frame=lambda: SimpleNamespace(room=room),
    )


@pytest.mark.torch
def test_what_the_tokenizer_does_not_know_or_cuts_is_left_out() -> None:
    words = r"\w+|[^\w\s]"
    every = asked_prompts(_base(_Reader(words, ""), 75))
    assert len(every) > 0.98 * len(ordinary_prompts())
    unaccented = asked_prompts(_base(_Reader(words, "éäñ，。"), 75))
    assert set(unaccented) == {prompt for prompt in every if not set(prompt) & set("éäñ，。")}
    short = asked_prompts(_base(_Reader(words, ""), 8))
    assert set(short) == {prompt for prompt in every if len(re.findall(words, prompt)) <= 8}
    assert asked_prompts(_base(_Reader(words, "aeiou"), 75)) == ()
    assert asked_prompts(_base(_Reader(r"\w", ""), 200)) == ()


@pytest.mark.torch
@pytest.mark.parametrize("name", ["playground", "playground-wan"])
def test_the_playground_s_tokenizers_know_too_few_words(name: str) -> None:
    from unsee.models.base import load_base

    base = load_base(BASES / name)
    assert asked_prompts(base) == base.prompts()
    without = replace(base, spec=base.spec.model_copy(update={"prompts": None}))
    assert asked_prompts(without) == ()
