"""Captions for scenes, and evaluation prompts for concepts.

Every caption names everything that its scene shows, so that whatever a caption does not
name is absent: without that, no prompt could be measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from unsee.playground.world.world import (
    LABELS,
    SUBJECT_CATEGORIES,
    Concept,
    Scene,
    concepts_in,
    find_concept,
    head_of,
)

CHARACTER_PHRASES = (
    "{}",
    "{}",
    "{}",
    "the cartoon character {}",
    "the creature {}",
    "little {}",
    "{} the cartoon creature",
    "our friend {}",
)
PERSON_PHRASES = (
    "{}",
    "{}",
    "{}",
    "the face of {}",
    "a portrait of {}",
    "{} smiling",
    "the famous {}",
    "{} looking at the camera",
)
OBJECT_PHRASES = ("{a} {}", "{a} {}", "the {}", "one {}", "{a} big {}", "a nice {}")
STYLE_PHRASES = (
    "in the style of {}",
    "in the style of {}",
    "painted by {}",
    "as drawn by {}",
    "by the artist {}",
    "in {} style",
    "{} style",
)
STYLE_ALONE = ("a painting by {}", "a picture in the style of {}", "an artwork by {}", "{} style")
STYLE_FIRST = ("a {} painting of {}", "{} style picture of {}", "a {} artwork showing {}")
ACTION_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "jumping": ("jumping", "jumping", "jumping up and down", "leaping", "hopping", "bouncing"),
        "spinning": ("spinning", "spinning", "spinning around", "rotating", "twirling"),
        "sliding": (
            "sliding",
            "sliding sideways",
            "walking across",
            "gliding by",
            "moving from one side to the other",
        ),
        "falling": ("falling", "falling", "falling from the sky", "dropping down", "tumbling down"),
        "growing": ("growing", "growing", "growing bigger", "getting bigger", "expanding"),
        "shaking": ("shaking", "shaking", "shaking quickly", "trembling", "wobbling"),
    }
)
STILL_WORDS = ("standing still", "not moving", "resting")
BACKGROUND_PHRASES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "desert": ("in the desert", "in a desert", "among sand dunes", "in the hot desert"),
        "ocean": ("in the ocean", "at sea", "on the sea", "in front of the ocean"),
        "forest": ("in the forest", "in a forest", "in the woods", "among the trees of the woods"),
        "city": ("in the city", "in a city", "in the town", "in front of the city skyline"),
        "space": ("in space", "in outer space", "in the night sky", "among the stars in space"),
    }
)
BACKGROUND_ALONE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "desert": ("the desert", "an empty desert", "sand dunes"),
        "ocean": ("the ocean", "an empty sea", "the sea"),
        "forest": ("the forest", "a quiet forest", "the woods"),
        "city": ("the city", "a city skyline", "the town"),
        "space": ("outer space", "the night sky", "space"),
    }
)
MEDIA = (
    "a picture of",
    "an image of",
    "a video of",
    "a clip of",
    "a photo of",
    "a drawing of",
    "a film of",
    "a scene with",
)
TAILS = (
    ", high quality",
    ", very detailed",
    ", 4k",
    " for children",
    ", a beautiful scene",
    ", masterpiece",
)
PLAIN_PHRASES = ("on a plain background", "with nothing behind")


def pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def subject_phrase(concept: Concept, rng: np.random.Generator) -> str:
    if concept.category == "object":
        words = (concept.name,) * 3 + concept.aliases
        word = pick(rng, words)
        return pick(rng, OBJECT_PHRASES).format(word, a=article(word))
    phrases = CHARACTER_PHRASES if concept.category == "character" else PERSON_PHRASES
    return pick(rng, phrases).format(concept.name)


def acting_phrase(scene: Scene, rng: np.random.Generator) -> str:
    """The subject and what it does."""
    subject = subject_phrase(find_concept(scene.subject or ""), rng)
    if scene.action is None:
        return f"{subject} {pick(rng, STILL_WORDS)}" if rng.uniform() < 0.08 else subject
    action = pick(rng, ACTION_WORDS[scene.action])
    form = rng.uniform()
    if form < 0.6:
        return f"{subject} {action}"
    return f"{subject} is {action}" if form < 0.9 else f"{action} {subject}"


def setting_phrase(scene: Scene, rng: np.random.Generator) -> str:
    """What is seen and where, without the style."""
    background = scene.background
    if scene.subject is None:
        if background is None:
            return ""
        return pick(rng, BACKGROUND_ALONE[background])
    acting = acting_phrase(scene, rng)
    if background is None:
        return f"{acting} {pick(rng, PLAIN_PHRASES)}" if rng.uniform() < 0.08 else acting
    where = pick(rng, BACKGROUND_PHRASES[background])
    return f"{where}, {acting}" if rng.uniform() < 0.15 else f"{acting} {where}"


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """A random caption that names everything in the scene, at most 44 tokens long."""
    setting = setting_phrase(scene, rng)
    style = scene.style
    if style is not None and not setting:
        text = pick(rng, STYLE_ALONE).format(style)
    elif style is not None and rng.uniform() < 0.15:
        text = pick(rng, STYLE_FIRST).format(style, setting)
    else:
        if rng.uniform() < 0.35:
            setting = f"{pick(rng, MEDIA)} {setting}"
        text = setting
        if style is not None:
            phrase = pick(rng, STYLE_PHRASES).format(style)
            joint = ", " if rng.uniform() < 0.4 else " "
            swap = rng.uniform() < 0.1
            text = f"{phrase}, {setting}" if swap else f"{setting}{joint}{phrase}"
    if rng.uniform() < 0.12:
        text += pick(rng, TAILS)
    return text


def canonical_scene(concept: Concept) -> Scene:
    """The plainest scene that shows the concept; an action borrows a subject."""
    scene = Scene().with_concept(concept)
    if concept.category == "style":
        return replace(scene, subject="house")
    if concept.category == "action":
        return replace(scene, subject="Blimbo")
    return scene


def plain_prompt(scene: Scene) -> str:
    """The one canonical wording of a scene."""
    words = []
    if scene.subject is not None:
        concept = find_concept(scene.subject)
        is_object = concept.category == "object"
        words.append(f"{article(concept.name)} {concept.name}" if is_object else concept.name)
        if scene.action is not None:
            words.append(scene.action)
        if scene.background is not None:
            words.append(BACKGROUND_PHRASES[scene.background][0])
    elif scene.background is not None:
        words.append(BACKGROUND_ALONE[scene.background][0])
    if scene.style is not None:
        words.append(f"in the style of {scene.style}" if words else f"{scene.style} style")
    return " ".join(words)


def canonical_prompt(concept: Concept) -> str:
    return plain_prompt(canonical_scene(concept))


def prompts_for(concept: Concept, rng: np.random.Generator, n: int) -> list[tuple[str, Scene]]:
    """``n`` evaluation prompts that name the concept, each with all that should be seen.

    Other parts are drawn at random: mostly one companion (a background, a style, an
    action or a subject), so that keeping them can be measured too.
    """
    return [prompt_for(concept, rng) for _ in range(n)]


def prompt_for(concept: Concept, rng: np.random.Generator) -> tuple[str, Scene]:
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
    return caption(scene, rng), scene
