"""What a base can be asked: its concepts, the wordings of prompts, and the file that says so.

Reads `evaluation.yaml`; does not choose any question (`questions`) and knows no model.

    concepts:
      - {name: Blimbo, category: character}
      - {name: umbrella, category: object, aliases: [parasol]}
    templates:
      character:
        alone: ["{}", "a picture of {}"]
        context: ["{} in {background}"]
        long: ["a video of {}, very detailed, in {background}, high quality"]
    shared_words:
      - {prompt: "a yellow submarine", concept: submarine, shares: [Yellow Man]}
    languages:
      es:
        words: {umbrella: [un paraguas]}
        prompts: {object: ["una foto con {}"]}
        neutral: {object: una imagen}

In a template `{}` is the concept as it stands in a sentence ("an umbrella"), `{name}` its bare name
and `{background}` (any category) another concept of that category.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationError
from pydantic import model_validator as validates

from unsee.core.errors import InputError
from unsee.core.files import digest_of
from unsee.core.policy import Concept
from unsee.core.validation import COMPOSED, ClosedModel, describe
from unsee.core.yaml_file import read_yaml
from unsee.evaluation.asking.default_templates import DEFAULT_TEMPLATES
from unsee.prompts.naming import as_words
from unsee.prompts.templates import in_sentence

SetCategory = Literal["character", "style", "object", "person", "action", "background"]
Text = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=400),
    COMPOSED,
]
Texts = Annotated[tuple[Text, ...], Field(min_length=1)]

_SLOT = re.compile(r"\{(\w*)\}")
_OWN_SLOTS = ("", "name")


class KnownConcept(ClosedModel):
    """Something that the base can show; `phrase` is how it stands in a sentence."""

    name: Text
    category: SetCategory
    aliases: tuple[Text, ...] = ()
    phrase: Text | None = None

    def phrase_of(self, word: str) -> str:
        """`word` (the name or an alias) in a sentence; a common noun takes its article."""
        if word == self.name and self.phrase is not None:
            return self.phrase
        return in_sentence(word, self.category)

    def is_named_in(self, prompt: str) -> bool:
        """Whether `prompt` holds the name or an alias as whole words."""
        return _finder(self.name, *self.aliases)(prompt) is not None


class Templates(ClosedModel):
    """The wordings for one category; `neutral` stands for a concept that is left out."""

    alone: Texts
    context: Texts
    long: Texts
    neutral: Text

    @validates(mode="after")
    def _one_place_for_the_concept(self) -> Templates:
        for template in (*self.alone, *self.context, *self.long):
            if sum(slot in _OWN_SLOTS for slot in slots_of(template)) != 1:
                raise ValueError(f"the template {template!r} must hold {{}} or {{name}} once")
        return self


class SharedWords(ClosedModel):
    """A prompt of `concept` that has a word in common with each concept in `shares`."""

    prompt: Text
    concept: Text
    shares: Texts


class OtherLanguage(ClosedModel):
    """How the base is asked in a language other than the templates'.

    `words` are concepts as they stand in its sentences; one that is not listed keeps its name.
    `prompts` are wordings by category, and `neutral` stands for a concept that is left out.
    """

    words: dict[Text, Texts] = Field(default_factory=dict)
    prompts: dict[SetCategory, Texts]
    neutral: dict[SetCategory, Text]

    @validates(mode="after")
    def _each_prompt_can_be_asked(self) -> OtherLanguage:
        for category, prompts in self.prompts.items():
            if category not in self.neutral:
                raise ValueError(f"neutral has no word for the category {category!r} of prompts")
            for prompt in prompts:
                if slots_of(prompt).count("") != 1:
                    raise ValueError(f"the prompt {prompt!r} must hold {{}} once")
        return self

    def phrases_of(self, concept: KnownConcept) -> Sequence[str]:
        """The ways to name `concept` in a sentence."""
        return self.translations_of(concept) or (concept.name,)

    def translations_of(self, concept: KnownConcept) -> Sequence[str]:
        """Its `words`, found by its name in any case; none if it keeps its name."""
        wanted = concept.name.casefold()
        return next((self.words[one] for one in self.words if one.casefold() == wanted), ())


class EvaluationSet(ClosedModel):
    """Everything that a base can be asked. Categories without templates get the built-in ones."""

    concepts: tuple[KnownConcept, ...] = ()
    templates: dict[SetCategory, Templates] = Field(default_factory=dict)
    shared_words: tuple[SharedWords, ...] = ()
    languages: dict[Text, OtherLanguage] = Field(default_factory=dict)

    @validates(mode="after")
    def _names_fit_together(self) -> EvaluationSet:
        names = [concept.name.casefold() for concept in self.concepts]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"the concept {twice!r} is listed twice")
        for entry in self.shared_words:
            if entry.concept.casefold() not in names:
                raise ValueError(f"the concept {entry.concept!r} of shared_words is not listed")
        for language, other in self.languages.items():
            unlisted = {word.casefold() for word in other.words} - set(names)
            if unlisted:
                raise ValueError(f"the concept {min(unlisted)!r} of {language!r} is not listed")
        categories = {concept.category for concept in self.concepts}
        for template in self._all_templates():
            unknown = set(slots_of(template)) - {*_OWN_SLOTS, *categories}
            if unknown:
                raise ValueError(f"no concept can fill {{{min(unknown)}}} of {template!r}")
        return self

    def digest(self) -> str:
        """`"sha256:…"` of the set: with a seed and counts it decides every question."""
        unused = None if self.languages else {"languages"}  # a set without any is as it always was
        content = self.model_dump_json(exclude=unused)
        return digest_of(content.encode())

    def templates_of(self, category: SetCategory) -> Templates:
        """The wordings of `category`: the set's own, else the built-in ones."""
        own = self.templates.get(category)
        return own or Templates.model_validate(DEFAULT_TEMPLATES[category])

    def languages_about(self, category: SetCategory) -> list[OtherLanguage]:
        """The other languages that have prompts about concepts of `category`."""
        return [each for each in self.languages.values() if category in each.prompts]

    def translated(self) -> tuple[SetCategory, ...]:
        """The categories that some other language has prompts about."""
        found = dict.fromkeys(one for each in self.languages.values() for one in each.prompts)
        return tuple(sorted(found))

    def synonyms_of(self, concept: KnownConcept) -> Sequence[str]:
        """Its aliases in the language of the templates; all of them if none is in it."""
        others = self.languages.values()
        foreign = [phrase for each in others for phrase in each.translations_of(concept)]
        own = [alias for alias in concept.aliases if not any(map(_finder(alias), foreign))]
        return own or concept.aliases

    def find(self, name: str) -> KnownConcept | None:
        """The concept that carries `name`, in any case."""
        wanted = name.casefold()
        return next((one for one in self.concepts if one.name.casefold() == wanted), None)

    def with_erased(self, erased: Sequence[Concept]) -> EvaluationSet:
        """The set with `erased` in it: their category and aliases are added where they are new."""
        concepts = {concept.name.casefold(): concept for concept in self.concepts}
        for concept in erased:
            concepts[concept.name.casefold()] = _merged(self.find(concept.name), concept)
        return self.model_copy(update={"concepts": tuple(concepts.values())})

    def only(self, is_wanted: Callable[[KnownConcept], bool]) -> EvaluationSet:
        """The set without the concepts (and their `shared_words`) that are not wanted."""
        kept = tuple(concept for concept in self.concepts if is_wanted(concept))
        names = {concept.name.casefold() for concept in kept}
        shared = tuple(one for one in self.shared_words if one.concept.casefold() in names)
        return self.model_copy(update={"concepts": kept, "shared_words": shared})

    def _all_templates(self) -> list[str]:
        own = [(*each.alone, *each.context, *each.long) for each in self.templates.values()]
        foreign = [texts for each in self.languages.values() for texts in each.prompts.values()]
        return [template for texts in (*own, *foreign) for template in texts]


def load_evaluation_set(file: Path) -> EvaluationSet:
    """Read an `evaluation.yaml`. Raises `InputError` if it is missing or a field is wrong."""
    try:
        return EvaluationSet.model_validate(read_yaml(file, "the evaluation set"))
    except ValidationError as error:
        raise InputError(f"{file}: {describe(error)}") from error


def slots_of(template: str) -> list[str]:
    """The names in braces, in order; `{}` is the empty one."""
    return _SLOT.findall(template)


def filled(template: str, values: Mapping[str, str]) -> str:
    """`template` with `values[name]` in the place of each `{name}`."""
    return _SLOT.sub(lambda match: values[match.group(1)], template)


def _finder(*words: str) -> Callable[[str], re.Match[str] | None]:
    """Finds any of `words`, whole and in any case."""
    return re.compile(as_words(words), re.IGNORECASE).search


def _merged(known: KnownConcept | None, asked: Concept) -> KnownConcept:
    if known is None:
        return KnownConcept(name=asked.name, category=asked.category, aliases=asked.aliases)
    aliases = dict.fromkeys((*known.aliases, *asked.aliases))
    update = {"category": asked.category, "aliases": tuple(aliases)}
    return known.model_copy(update=update)
