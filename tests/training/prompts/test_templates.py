"""Prompts around a name, and how many of them fit into the tokenizer's length."""

import pytest

from unsee.core.categories import CATEGORIES
from unsee.core.errors import InputError
from unsee.core.policy import Concept
from unsee.images.few_shot import few_shot_prompts
from unsee.models.base import Base
from unsee.prompts.templates import prompts_around, training_prompts
from unsee.prompts.tokens import fitting_prompts, padded_token_ids


def test_every_category_has_prompts_with_the_name_in_each() -> None:
    for category in CATEGORIES:
        prompts = prompts_around("Xyzzy", category)
        assert len(set(prompts)) == len(prompts) >= 8
        assert all("Xyzzy" in prompt for prompt in prompts)


def test_aliases_have_prompts_too() -> None:
    concept = Concept(name="umbrella", category="object", aliases=("parasol",))
    prompts = training_prompts(concept)
    assert "a photo of an umbrella" in prompts
    assert "a photo of a parasol" in prompts


def test_few_shot_prompts_take_turns(base: Base, blimbo: Concept) -> None:
    prompts = few_shot_prompts(base, blimbo, 20)
    assert len(prompts) == 20
    assert prompts[:4] == few_shot_prompts(base, blimbo, 4)
    assert not any("Blimby" in prompt for prompt in prompts)


@pytest.mark.parametrize("shots", [0, -3])
def test_too_few_shots(base: Base, blimbo: Concept, shots: int) -> None:
    with pytest.raises(InputError, match=f"shots is {shots}"):
        few_shot_prompts(base, blimbo, shots)


def test_no_prompt_is_cut_off(base: Base) -> None:
    name = "q" * 40  # 42 ids by itself, 48 fit
    fitting = fitting_prompts(base, prompts_around(name, "person"))
    assert list(fitting) == [name]
    with pytest.raises(InputError, match="takes 72 tokens and the base 'tiny' reads 48"):
        fitting_prompts(base, prompts_around("q" * 70, "person"))


def test_padding_is_the_tokenizers_own(base: Base) -> None:
    tokenizer = base.tokenizer()
    prompts = prompts_around("Blimbo", "character")
    expected = tokenizer(list(prompts), padding="max_length").input_ids
    assert padded_token_ids(base, prompts) == expected
