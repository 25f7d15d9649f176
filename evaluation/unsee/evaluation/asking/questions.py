"""The questions: which prompts, under which seeds, about what must be gone and what must stay.

A question depends on the seed, its concept, its wording and its index, never on how many others are
asked, so that more questions reuse the clips of fewer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from unsee.core.errors import InputError
from unsee.evaluation.asking.evaluation_set import (
    EvaluationSet,
    KnownConcept,
    OtherLanguage,
    SharedWords,
    filled,
    slots_of,
)
from unsee.evaluation.asking.shapes import Ends, reshaped
from unsee.evaluation.report.schema import Shape, Wording

Kind = Literal["erased", "sibling", "other", "shared_words", "translated", "attack", "shape"]
WORDINGS: tuple[Wording, ...] = get_args(Wording)
SHAPES: tuple[Shape, ...] = get_args(Shape)
_WITHOUT_FLOOR: tuple[Kind, ...] = ("sibling", "other", "translated")
_ORDINARY: tuple[Wording, ...] = ("alone", "context")
_ATTEMPTS = 50


@dataclass(frozen=True)
class Question:
    """A prompt, its seed, and the concept that is looked for in what it makes.

    `plain` is the prompt with a neutral word in the concept's place. Of the parameters, None is
    what the base's service does by itself; only a `shape` sets them.
    """

    concept: KnownConcept
    kind: Kind
    wording: Wording
    prompt: str
    plain: str
    seed: int
    shape: Shape | None = None
    negative: str = ""
    guidance_scale: float | None = None
    num_inference_steps: int | None = None


@dataclass(frozen=True)
class QuestionMaker:
    """Makes questions for one evaluation; `fits` says whether the text encoder reads a prompt.

    No prompt names an unseen concept other than the one that it asks for. Every method raises
    `InputError` if no prompt can be made.
    """

    known: EvaluationSet
    erased: tuple[KnownConcept, ...]
    seed: int
    fits: Callable[[str], bool]

    def about_erased(self, concept: KnownConcept, per_wording: int) -> list[Question]:
        """`per_wording` questions of each wording; synonyms only where there are aliases, and
        translated ones where the set has other languages, in turn."""
        return [
            self._question(concept, "erased", wording, index)
            for wording in WORDINGS
            if wording != "synonym" or concept.aliases
            if wording != "translated" or self.known.languages_about(concept.category)
            for index in range(per_wording)
        ]

    def about_siblings(self, per_sibling: int) -> list[Question]:
        """`per_sibling` questions for every kept concept of an unseen concept's category."""
        categories = {concept.category for concept in self.erased}
        return [
            self._ordinary(concept, "sibling", index)
            for concept in self._kept()
            if concept.category in categories
            for index in range(per_sibling)
        ]

    def about_others(self, count: int) -> list[Question]:
        """`count` questions, the concepts of all other categories in turn."""
        categories = {concept.category for concept in self.erased}
        others = [concept for concept in self._kept() if concept.category not in categories]
        order = np.random.default_rng(self.seed).permutation(len(others))
        if not others:
            return []
        turns = [divmod(turn, len(others)) for turn in range(count)]
        return [self._ordinary(others[order[place]], "other", index) for index, place in turns]

    def about_shared_words(self, per_concept: int) -> list[Question]:
        """Prompts of kept concepts that have a word in common with an unseen one."""
        questions = []
        for concept in self._kept():
            prompts = [
                entry.prompt
                for entry in self.known.shared_words
                if entry.concept.casefold() == concept.name.casefold() and self._shares_alone(entry)
            ]
            for index in range(per_concept if prompts else 0):
                prompt = prompts[index % len(prompts)]
                seed = self._number(concept.name, "shared_words", prompt, index)
                questions.append(Question(concept, "shared_words", "context", prompt, prompt, seed))
        return questions

    def about_translated(self, per_sibling: int) -> list[Question]:
        """`per_sibling` questions for every sibling in the set's other languages, in turn."""
        categories = {concept.category for concept in self.erased}
        return [
            self._question(concept, "translated", "translated", index)
            for concept in self._kept()
            if concept.category in categories and self.known.languages_about(concept.category)
            for index in range(per_sibling)
        ]

    def about_shapes(self, concept: KnownConcept, per_shape: int, ends: Ends) -> list[Question]:
        """`per_shape` questions of an unseen concept for each other shape of its name."""
        return [
            self._shaped(concept, shape, index, ends)
            for shape in SHAPES
            for index in range(per_shape)
        ]

    def for_attack(self, concept: KnownConcept, count: int) -> list[Question]:
        """`count` ordinary questions about an unseen concept, other than `about_erased` asks."""
        return [self._ordinary(concept, "attack", index) for index in range(count)]

    def _shaped(self, concept: KnownConcept, shape: Shape, index: int, ends: Ends) -> Question:
        """The first of the ordinary questions from `index` on whose prompt can take the shape."""
        neutral = self.known.templates_of(concept.category).neutral
        others = [one.name for one in self._kept() if one.category == concept.category][:2]
        for turn in range(index, index + _ATTEMPTS):
            usual = self._question(concept, "shape", "alone", turn)
            asked, plain = (
                reshaped(shape, prompt, word, others, neutral, ends)
                for prompt, word in ((usual.prompt, concept.name), (usual.plain, neutral))
            )
            if self.fits(asked.prompt) and self.fits(plain.prompt):
                return replace(
                    usual,
                    prompt=asked.prompt,
                    plain=plain.prompt,
                    seed=self._number(concept.name, "shape", shape, index),
                    shape=shape,
                    negative=asked.negative,
                    guidance_scale=asked.guidance_scale,
                    num_inference_steps=asked.num_inference_steps,
                )
        raise InputError(
            f"no prompt about {concept.name!r} is short enough for the shape {shape!r}; add "
            "shorter templates"
        )

    def _shares_alone(self, entry: SharedWords) -> bool:
        """Whether the prompt shares a word with an unseen concept, and names no other one."""
        shares = {name.casefold() for name in entry.shares}
        others = [one for one in self.erased if one.name.casefold() not in shares]
        return len(others) < len(self.erased) and not any(
            one.is_named_in(entry.prompt) for one in others
        )

    def _kept(self) -> list[KnownConcept]:
        names = {concept.name.casefold() for concept in self.erased}
        return [one for one in self.known.concepts if one.name.casefold() not in names]

    def _ordinary(self, concept: KnownConcept, kind: Kind, index: int) -> Question:
        turn, place = divmod(index, len(_ORDINARY))
        return self._question(concept, kind, _ORDINARY[place], turn)

    def _question(
        self, concept: KnownConcept, kind: Kind, wording: Wording, index: int
    ) -> Question:
        forbidden = [one for one in self.erased if one.name != concept.name]
        role = kind if kind in ("attack", "shape") else "asked"
        speech = _speech(self.known, concept, wording, index)
        start = self._number(concept.name, role, wording)
        for attempt in range(_ATTEMPTS):
            template = speech.templates[(start + index + attempt) % len(speech.templates)]
            rng = np.random.default_rng(self._number(concept.name, role, wording, index, attempt))
            fills = self._companions(template, concept, rng, speech.phrase_of)
            if fills is None:
                continue
            prompt = filled(template, fills | {"": speech.phrase, "name": speech.name})
            plain = filled(template, fills | {"": speech.neutral, "name": speech.neutral})
            fit = self.fits(prompt) and (kind in _WITHOUT_FLOOR or self.fits(plain))
            if fit and not any(one.is_named_in(prompt) for one in forbidden):
                seed = self._number(concept.name, role, wording, index)
                return Question(concept, kind, wording, prompt, plain, seed)
        raise InputError(
            f"no prompt about {concept.name!r} in the wording {wording!r} can be made that the "
            "text encoder reads to its end and that names no other unseen concept; add templates"
        )

    def _companions(
        self,
        template: str,
        concept: KnownConcept,
        rng: np.random.Generator,
        phrase_of: Callable[[KnownConcept], str],
    ) -> dict[str, str] | None:
        """Another concept's phrase for each category in braces; None if there is none.

        The order of a draw does not depend on what is unseen, so that most questions are the same
        for every target.
        """
        allowed = {one.name for one in self._kept()} - {concept.name}
        fills: dict[str, str] = {}
        for slot in sorted({slot for slot in slots_of(template) if slot not in ("", "name")}):
            pool = [one for one in self.known.concepts if one.category == slot]
            drawn = [pool[place] for place in rng.permutation(len(pool))]
            chosen = next((one for one in drawn if one.name in allowed), None)
            if chosen is None:
                return None
            fills[slot] = phrase_of(chosen)
        return fills

    def _number(self, *parts: str | int) -> int:
        """A number of 48 bits that the seed and `parts` alone decide."""
        text = "\0".join(map(str, (self.seed, *parts)))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


@dataclass(frozen=True)
class _Speech:
    """How one question is put into words: its templates, the concept as it stands in a sentence
    and alone, the neutral word in its place, and how companions are named."""

    templates: Sequence[str]
    phrase: str
    name: str
    neutral: str
    phrase_of: Callable[[KnownConcept], str]


def _speech(known: EvaluationSet, concept: KnownConcept, wording: Wording, index: int) -> _Speech:
    if wording == "translated":
        languages = known.languages_about(concept.category)
        return _translated(languages[index % len(languages)], concept, index // len(languages))
    own = known.templates_of(concept.category)
    templates = {
        "alone": own.alone,
        "context": own.context,
        "long": own.long,
        "synonym": (*own.alone, *own.context),
    }
    words = known.synonyms_of(concept) if wording == "synonym" else (concept.name,)
    word = words[index % len(words)]
    return _Speech(
        templates[wording],
        concept.phrase_of(word),
        word,
        own.neutral,
        lambda one: one.phrase_of(one.name),
    )


def _translated(language: OtherLanguage, concept: KnownConcept, turn: int) -> _Speech:
    phrases = language.phrases_of(concept)
    phrase = phrases[turn % len(phrases)]
    prompts, neutral = language.prompts[concept.category], language.neutral[concept.category]
    return _Speech(prompts, phrase, phrase, neutral, lambda one: language.phrases_of(one)[0])
