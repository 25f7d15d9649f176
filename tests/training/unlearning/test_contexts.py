"""Contexts: prompts with the concept keep its name whole, prompts without it never name it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unsee.core.errors import InputError
from unsee.core.policy import Concept
from unsee.models.base import Base
from unsee.prompts.ordinary import asked_prompts
from unsee.prompts.templates import training_prompts
from unsee.prompts.tokens import padded_token_ids
from unsee.unlearning.anchors import Naming
from unsee.unlearning.contexts import Contexts, contexts_of, word_ids

ASKED = ("a red house", "Blimbo in a tree", "a boat, at night", "two of THE BLIMBY", "Blimbos")

Asking = Callable[[Sequence[str]], Base]


@pytest.fixture
def asking(base: Base, tmp_path: Path) -> Asking:
    """The tiny base with a prompts file."""

    def make(prompts: Sequence[str]) -> Base:
        file = tmp_path / "prompts.txt"
        file.write_text("\n".join(prompts))
        return replace(base, spec=base.spec.model_copy(update={"prompts": str(file)}))

    return make


def _words(naming: Naming) -> list[int]:
    return [*naming.before, *naming.name, *naming.after]


def _holds(row: Sequence[int], name: Sequence[int]) -> bool:
    starts = range(len(row) - len(name) + 1)
    return any(list(row[start : start + len(name)]) == list(name) for start in starts)


def test_without_a_prompts_file_there_are_the_templates(base: Base, blimbo: Concept) -> None:
    contexts = contexts_of(base, blimbo)
    framed = [contexts.frame.framed(_words(naming)) for naming in contexts.named]
    assert framed == padded_token_ids(base, training_prompts(blimbo))
    assert contexts.kept == asked_prompts(base) == ()  # its tokenizer knows letters alone
    names = {word_ids(base, name) for name in ("Blimbo", "Blimby")}
    assert {naming.name for naming in contexts.named} == names


def test_without_a_prompts_file_half_of_what_is_kept_is_ordinary(wordy_base: Base) -> None:
    contexts = contexts_of(wordy_base, Concept(name="dog", category="object"))
    asked, dog = asked_prompts(wordy_base), word_ids(wordy_base, "dog")
    assert 3000 < len(contexts.kept) < len(asked)
    assert not any(_holds(row, dog) for row in contexts.kept)
    own = {tuple(_words(naming)) for naming in contexts.named}
    about = [text for text in asked if " dog " in text]
    assert len(about) > 5
    assert {word_ids(wordy_base, text) for text in about} <= own
    rows = contexts.draw_kept(400, torch.Generator().manual_seed(0))
    assert rows == contexts.draw_kept(400, torch.Generator().manual_seed(0))
    ordinary = {tuple(contexts.frame.framed(row)) for row in contexts.kept}
    assert 160 < sum(tuple(row) in ordinary for row in rows) < 240


def test_an_empty_prompts_file_leaves_random_words(asking: Asking, blimbo: Concept) -> None:
    contexts = contexts_of(asking([]), blimbo)
    assert contexts.kept == ()


def test_what_people_ask_is_parted_by_the_name(asking: Asking, blimbo: Concept) -> None:
    base = asking(ASKED)
    contexts = contexts_of(base, blimbo)
    kept = tuple(word_ids(base, text) for text in ("a red house", "a boat, at night"))
    assert contexts.kept == kept
    named = set(contexts.named)
    tree = Naming((), word_ids(base, "Blimbo"), word_ids(base, "in a tree"))
    assert tree in named
    assert Naming(word_ids(base, "two of THE"), word_ids(base, "BLIMBY"), ()) in named
    plain = word_ids(base, "a picture of")
    assert Naming(word_ids(base, "a red house,") + plain, tree.name, ()) in named


def test_enough_prompts_of_its_own_are_not_joined_to_others(
    asking: Asking, blimbo: Concept
) -> None:
    own = [f"Blimbo {chr(97 + index)}" for index in range(20)]
    contexts = contexts_of(asking(["a red house", *own]), blimbo)
    assert len(contexts.named) == len(training_prompts(blimbo)) + len(own)


def test_a_name_that_does_not_fit_is_refused(base: Base) -> None:
    with pytest.raises(InputError, match="use a shorter name"):
        contexts_of(base, Concept(name="Zorpik " * 9, category="character"))


def test_the_random_words_are_all_but_the_names(base: Base, blimbo: Concept) -> None:
    words = set(contexts_of(base, blimbo).words)
    named = {*word_ids(base, "Blimbo"), *word_ids(base, "Blimby")}
    frame = base.prompt_frame()
    assert words == set(range(len(base.tokenizer()))) - named - {*frame.start, frame.eos}
    assert words >= set(word_ids(base, "zebra")) - named


_TEXTS = st.text("ab ,'!-1éÅ", max_size=12)


def test_pieces_are_the_prompt_s_own_tokens(asking: Asking, blimbo: Concept) -> None:
    @given(before=_TEXTS, after=_TEXTS, name=st.sampled_from(["Blimbo", "BLIMBY", "blimbo"]))
    @settings(max_examples=40, deadline=None)
    def check(before: str, after: str, name: str) -> None:
        prompt = f"{before} {name} {after}"
        base = asking([prompt])
        framed = [
            (naming.name, contexts.frame.framed(_words(naming)))
            for contexts in [contexts_of(base, blimbo)]
            for naming in contexts.named
        ]
        assert (word_ids(base, name), padded_token_ids(base, [prompt])[0]) in framed

    check()


def test_drawn_prompts(asking: Asking, blimbo: Concept) -> None:
    base = asking([*ASKED, f"Blimbo {'x' * 37}", f"{'x' * 37} Blimbo"])
    contexts = contexts_of(base, blimbo)
    names = {naming.name for naming in contexts.named}

    @given(seed=st.integers(0, 999))
    @settings(max_examples=25, deadline=None)
    def check(seed: int) -> None:
        _check_named(contexts, names, seed)
        _check_kept(contexts, [word_ids(base, "Blimbo"), word_ids(base, "Blimby")], seed)

    check()


def _check_named(contexts: Contexts, names: set[tuple[int, ...]], seed: int) -> None:
    drawn = contexts.draw_named(60, torch.Generator().manual_seed(seed))
    assert drawn == contexts.draw_named(60, torch.Generator().manual_seed(seed))
    assert len(drawn) == 60
    for naming in drawn:
        assert naming.name in names
        start = 1 + len(naming.before)
        row = contexts.frame.framed(_words(naming))
        assert tuple(row[start : start + len(naming.name)]) == naming.name
    known = set(contexts.named)
    assert 0 < sum(naming in known for naming in drawn) < 60


def _check_kept(contexts: Contexts, names: list[tuple[int, ...]], seed: int) -> None:
    rows = contexts.draw_kept(60, torch.Generator().manual_seed(seed))
    assert rows == contexts.draw_kept(60, torch.Generator().manual_seed(seed))
    assert len(rows) == 60
    assert rows[0] == contexts.frame.framed([])
    assert all(len(row) == contexts.frame.length for row in rows)
    assert not any(_holds(row, name) for row in rows for name in names)


def test_the_longest_name_is_read_whole(base: Base) -> None:
    length = base.prompt_frame().length
    concept = Concept(name="z" * (length - 2), category="character")
    contexts = contexts_of(base, concept)
    for naming in contexts.draw_named(30, torch.Generator().manual_seed(0)):
        row = contexts.frame.framed(_words(naming))
        assert row[1:-1] == list(word_ids(base, concept.name))
