"""Prompts around a concept's name, one set of templates per category.

Own wording, after the two kinds (object-like and style-like) of Fuchi & Takagi (arXiv 2405.07288).
"""

from unsee.core.categories import Category
from unsee.core.policy import Concept

_OBJECT_TEMPLATES = (
    "a photo of {}",
    "a picture of {}",
    "{}",
    "an image of {}",
    "a close-up of {}",
    "a drawing of {}",
    "a good photo of {}",
    "a small picture of {}",
    "a bright photo of {}",
    "a scene with {}",
)
_PERSON_TEMPLATES = (
    "a photo of {}",
    "a portrait of {}",
    "{}",
    "a picture of {}",
    "the face of {}",
    "a close-up of {}",
    "an image of {}",
    "a film with {}",
)
_CHARACTER_TEMPLATES = (
    "a picture of {}",
    "an image of {}",
    "{}",
    "a photo of {}",
    "a cartoon of {}",
    "a drawing of {}",
    "a close-up of {}",
    "a film with {}",
)
_STYLE_TEMPLATES = (
    "a picture in the style of {}",
    "a painting in the style of {}",
    "a painting by {}",
    "{}",
    "an image in the style of {}",
    "a drawing in the style of {}",
    "a house in the style of {}",
    "a tree in the style of {}",
    "a portrait in the style of {}",
    "a small painting in the style of {}",
)
_ACTION_TEMPLATES = (
    "someone {}",
    "a person {}",
    "{}",
    "a picture of someone {}",
    "a video of someone {}",
    "a character {}",
    "an animal {}",
    "something {}",
)
TEMPLATES: dict[Category, tuple[str, ...]] = {
    "character": _CHARACTER_TEMPLATES,
    "style": _STYLE_TEMPLATES,
    "object": _OBJECT_TEMPLATES,
    "person": _PERSON_TEMPLATES,
    "action": _ACTION_TEMPLATES,
}


def in_sentence(name: str, category: str) -> str:
    """The name as it stands in a sentence: a common noun of an object takes its article."""
    if category != "object" or not name[:1].islower():
        return name
    article = "an" if name[0] in "aeiou" else "a"
    return f"{article} {name}"


def prompts_around(name: str, category: Category) -> tuple[str, ...]:
    """Every template of the category around `name`, the plainest first."""
    return tuple(template.format(in_sentence(name, category)) for template in TEMPLATES[category])


def training_prompts(concept: Concept) -> tuple[str, ...]:
    """Every template of the concept's category around its name and each of its aliases."""
    return tuple(
        prompt
        for name in (concept.name, *concept.aliases)
        for prompt in prompts_around(name, concept.category)
    )
