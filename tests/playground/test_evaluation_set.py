"""The playground's `evaluation.yaml` against the world that it describes."""

from __future__ import annotations

import re

import pytest
from transformers import CLIPTokenizer

from unsee.evaluation.asking.evaluation_set import EvaluationSet, load_evaluation_set
from unsee.evaluation.asking.questions import Question, QuestionMaker
from unsee.models.base import load_base
from unsee.playground.networks import t5_tokenizer
from unsee.playground.networks.tokenizer import training_captions
from unsee.playground.training.train_data import BASE_DIR
from unsee.playground.training.wan import stages
from unsee.playground.world.languages import SPANISH
from unsee.playground.world.world import CONCEPTS


@pytest.fixture(scope="module")
def known() -> EvaluationSet:
    name = load_base(BASE_DIR).spec.evaluation
    assert name is not None
    return load_evaluation_set(BASE_DIR / name)


@pytest.fixture(scope="module")
def questions(known: EvaluationSet) -> list[Question]:
    """What is asked when each concept in turn is unseen."""
    tokenizer = CLIPTokenizer.from_pretrained(BASE_DIR / "t2i" / "tokenizer")

    def fits(prompt: str) -> bool:
        return len(tokenizer(prompt).input_ids) <= 48

    asked = []
    for concept in known.concepts:
        if concept.category != "background":
            maker = QuestionMaker(known, (concept,), 0, fits)
            asked += maker.about_erased(concept, 8) + maker.for_attack(concept, 8)
            asked += maker.about_siblings(2) + maker.about_others(8)
            asked += maker.about_shared_words(2)
    return asked


def test_it_lists_the_world(known: EvaluationSet) -> None:
    ours = [(concept.name, concept.category) for concept in known.concepts]
    assert ours == [(concept.name, concept.category) for concept in CONCEPTS]
    for concept, drawn in zip(known.concepts, CONCEPTS, strict=True):
        if concept.category != "background":
            assert concept.aliases == drawn.aliases


def test_its_prompts_use_only_words_of_the_captions(questions: list[Question]) -> None:
    captions = " ".join(training_captions(0, 4_000)).lower()
    known_words = set(re.findall(r"\w+", captions))
    for question in questions:
        assert set(re.findall(r"\w+", question.prompt.lower())) <= known_words, question.prompt


def test_long_prompts_are_long_and_the_others_are_not(questions: list[Question]) -> None:
    for question in questions:
        words = len(question.prompt.split())
        if question.kind == "erased":
            assert (words >= 14) == (question.wording == "long"), question.prompt


def test_no_kept_prompt_names_what_is_unseen(known: EvaluationSet) -> None:
    for concept in known.concepts[:32]:
        maker = QuestionMaker(known, (concept,), 0, lambda prompt: True)
        kept = maker.about_siblings(2) + maker.about_others(8) + maker.about_shared_words(2)
        assert not [one.prompt for one in kept if concept.is_named_in(one.prompt)]


def test_prompts_in_another_language_use_only_words_of_its_captions() -> None:
    known = load_evaluation_set(stages.BASE_DIR / "evaluation.yaml")
    captions = " ".join(t5_tokenizer.training_captions(SPANISH, 0, 4_000)).lower()
    known_words = set(re.findall(r"\w+", captions))
    for concept in known.concepts:
        maker = QuestionMaker(known, (concept,), 0, lambda prompt: True)
        asked = [one for one in maker.about_erased(concept, 12) if one.wording == "translated"]
        assert bool(asked) == (concept.category != "background")
        for question in (*asked, *maker.about_translated(2)):
            for text in (question.prompt, question.plain):
                assert set(re.findall(r"\w+", text.lower())) <= known_words, text
