"""Captions for scenes, and evaluation prompts for concepts, in any of the world's languages.

Every caption names everything that its scene shows, so that whatever a caption does not
name is absent: without that, no prompt could be measured.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unsee.playground.world.languages import ENGLISH, Language, english_article
from unsee.playground.world.world import (
    LABELS,
    SUBJECT_CATEGORIES,
    Concept,
    Scene,
    concepts_in,
    find_concept,
    head_of,
)


def pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def subject_phrase(concept: Concept, rng: np.random.Generator, language: Language = ENGLISH) -> str:
    if concept.category == "object":
        word = pick(rng, language.object_words[concept.name])
        return pick(rng, language.object_phrases).format(word, **language.articles(word))
    is_character = concept.category == "character"
    phrases = language.character_phrases if is_character else language.person_phrases
    return pick(rng, phrases).format(concept.name)


def acting_phrase(scene: Scene, rng: np.random.Generator, language: Language = ENGLISH) -> str:
    """The subject and what it does."""
    subject = subject_phrase(find_concept(scene.subject or ""), rng, language)
    if scene.action is None:
        return f"{subject} {pick(rng, language.still_words)}" if rng.uniform() < 0.08 else subject
    action = pick(rng, language.action_words[scene.action])
    form = rng.uniform()
    order = language.acting[0 if form < 0.6 else 1 if form < 0.9 else 2]
    return order.format(subject=subject, action=action)


def setting_phrase(scene: Scene, rng: np.random.Generator, language: Language = ENGLISH) -> str:
    """What is seen and where, without the style."""
    background = scene.background
    if scene.subject is None:
        if background is None:
            return ""
        return pick(rng, language.background_alone[background])
    acting = acting_phrase(scene, rng, language)
    if background is None:
        return f"{acting} {pick(rng, language.plain_phrases)}" if rng.uniform() < 0.08 else acting
    where = pick(rng, language.background_phrases[background])
    return f"{where}, {acting}" if rng.uniform() < 0.15 else f"{acting} {where}"


def caption(scene: Scene, rng: np.random.Generator, language: Language = ENGLISH) -> str:
    """A random caption that names everything in the scene, at most 44 tokens long."""
    setting = setting_phrase(scene, rng, language)
    style = scene.style
    if style is not None and not setting:
        text = pick(rng, language.style_alone).format(style)
    elif style is not None and rng.uniform() < 0.15:
        text = pick(rng, language.style_first).format(style, setting)
    else:
        if rng.uniform() < 0.35:
            setting = f"{pick(rng, language.media)} {setting}"
        text = setting
        if style is not None:
            phrase = pick(rng, language.style_phrases).format(style)
            joint = ", " if rng.uniform() < 0.4 else " "
            swap = rng.uniform() < 0.1
            text = f"{phrase}, {setting}" if swap else f"{setting}{joint}{phrase}"
    if rng.uniform() < 0.12:
        text += pick(rng, language.tails)
    return text


def with_varied_case(text: str, rng: np.random.Generator) -> str:
    """The text as people may type it: mostly as it is, or a sentence, or in one case.

    For tokenizers that tell capitals from small letters.
    """
    form = rng.uniform()
    if form < 0.75 or not text:
        return text
    if form < 0.88:
        sentence = text[0].upper() + text[1:]
        return f"{sentence}." if rng.uniform() < 0.5 else sentence
    return text.lower() if form < 0.97 else text.upper()


def canonical_scene(concept: Concept) -> Scene:
    """The plainest scene that shows the concept; an action borrows a subject."""
    scene = Scene().with_concept(concept)
    if concept.category == "style":
        return replace(scene, subject="house")
    if concept.category == "action":
        return replace(scene, subject="Blimbo")
    return scene


def plain_prompt(scene: Scene) -> str:
    """The one canonical wording of a scene, in English."""
    words = []
    if scene.subject is not None:
        concept = find_concept(scene.subject)
        is_object = concept.category == "object"
        words.append(
            f"{english_article(concept.name)} {concept.name}" if is_object else concept.name
        )
        if scene.action is not None:
            words.append(scene.action)
        if scene.background is not None:
            words.append(ENGLISH.background_phrases[scene.background][0])
    elif scene.background is not None:
        words.append(ENGLISH.background_alone[scene.background][0])
    if scene.style is not None:
        words.append(f"in the style of {scene.style}" if words else f"{scene.style} style")
    return " ".join(words)


def canonical_prompt(concept: Concept) -> str:
    return plain_prompt(canonical_scene(concept))


def prompt_for(
    concept: Concept, rng: np.random.Generator, language: Language = ENGLISH
) -> tuple[str, Scene]:
    """An evaluation prompt that names the concept, with all that should be seen.

    Other parts are drawn at random: mostly one companion (a background, a style, an
    action or a subject), so that keeping them can be measured too.
    """
    head = head_of(concept.category)
    scene = Scene().with_concept(concept)
    if head in ("style", "action", "background") and (head == "action" or rng.uniform() < 0.8):
        category = pick(rng, SUBJECT_CATEGORIES)
        names = tuple(c.name for c in concepts_in(category))
        scene = replace(scene, subject=pick(rng, names))
    companion = pick(rng, ("none", "background", "style", "action"))
    is_free = companion not in ("none", head)
    if is_free and (scene.subject is not None or companion != "action"):
        scene = scene.with_part(companion, pick(rng, LABELS[companion][1:]))
    return caption(scene, rng, language), scene
