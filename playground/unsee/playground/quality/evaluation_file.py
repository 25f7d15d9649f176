"""What the second base can be asked: ``python -m unsee.playground.quality.evaluation_file``.

It writes ``bases/playground-wan/evaluation.yaml``: the first base's set, for the world is the same,
and below it the section ``languages``, made of the phrases of the other languages' captions.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from unsee.core.files import write_file
from unsee.playground.quality.prompts_file import SPOKEN
from unsee.playground.training import train_data
from unsee.playground.training.program import exit_code_of
from unsee.playground.training.wan import stages
from unsee.playground.world.languages import ENGLISH, Language
from unsee.playground.world.world import CONCEPTS

EVALUATION_FILE = "evaluation.yaml"
NEUTRAL: Mapping[str, Mapping[str, str]] = {
    "es": {
        "character": "la criatura",
        "person": "un retrato",
        "object": "una imagen",
        "style": "una imagen",
        "action": "sin moverse",
    }
}
"""By language and category, what stands for a concept that is left out."""


def words_of(language: Language) -> dict[str, list[str]]:
    """The concepts that the language has words for, as they stand in a sentence."""
    words: dict[str, list[str]] = {}
    for concept in CONCEPTS:
        phrases = language.words_of(concept.name)
        if concept.category == "object":
            phrases = tuple(f"{language.articles(word)['a']} {word}" for word in phrases)
        elif concept.category == "background":
            phrases = language.background_phrases[concept.name]
        if phrases != (concept.name,):
            words[concept.name] = list(dict.fromkeys(phrases))
    return words


def prompts_of(language: Language) -> dict[str, list[str]]:
    """Wordings by category, alone and in a scene, of the phrases that captions are made of."""
    media, style = language.media[0], language.style_phrases[0].format("{style}")
    sentence = language.acting[1].format(subject="{}", action="{action}")
    scenes = ["{} {background}", "{} {action}", f"{{}} {style}", f"{sentence} {{background}}"]
    names = {
        "character": language.character_phrases,
        "person": language.person_phrases,
        "object": ("{}",),
    }
    subjects = {
        category: [*dict.fromkeys(phrases), f"{media} {{}}", *scenes]
        for category, phrases in names.items()
    }
    return {**subjects, "style": _styles(language), "action": _actions(language)}


def _styles(language: Language) -> list[str]:
    shown = ("{object}", "{character}", "{person}", "{object} {background}", "{character} {action}")
    phrases = [*dict.fromkeys(language.style_phrases)]
    return [f"{what} {phrases[place % len(phrases)]}" for place, what in enumerate(shown)]


def _actions(language: Language) -> list[str]:
    orders = [
        order.format(subject=subject, action="{}")
        for order in language.acting
        for subject in ("{character}", "{object}")
    ]
    return [*orders, f"{orders[0]} {{background}}", "{person} {} {background}"]


def section(languages: tuple[Language, ...]) -> str:
    """The section ``languages`` of an evaluation set, as YAML."""
    content: dict[str, Any] = {
        language.name: {
            "words": words_of(language),
            "prompts": prompts_of(language),
            "neutral": dict(NEUTRAL[language.name]),
        }
        for language in languages
    }
    return yaml.safe_dump(
        {"languages": content},
        sort_keys=False,
        allow_unicode=True,
        width=100,
        default_flow_style=None,
    )


def write(file: Path = stages.BASE_DIR / EVALUATION_FILE) -> None:
    """Writes the second base's set as ``file``, complete or not at all."""
    first = (train_data.BASE_DIR / EVALUATION_FILE).read_text(encoding="utf-8")
    others = tuple(one for one in SPOKEN[stages.BASE_DIR] if one is not ENGLISH)
    write_file(
        file,
        "# Written by `python -m unsee.playground.quality.evaluation_file`; do not edit.\n"
        f"{first}\n{section(others)}",
    )


if __name__ == "__main__":
    sys.exit(exit_code_of(write))
