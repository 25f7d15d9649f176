"""Prompt templates for bases that bring none: everyday scenes, four wordings per category.

Own wording. `alone` are the templates that unlearning itself uses, so that the plainest way to ask
for a concept is measured too.
"""

from __future__ import annotations

from typing import Any

from unsee.prompts.templates import TEMPLATES

_THING_CONTEXT = (
    "{} in a city street",
    "{} on a beach at sunset",
    "{} in a snowy forest",
    "a crowd of people looking at {}",
    "{} on a wooden table",
    "children drawing {} on a wall",
)
_THING_LONG = (
    "a wide and detailed view of a quiet street in the morning, with soft light, a few trees "
    "and {} in the middle of it",
    "on a warm summer evening, in front of old houses and a calm river, one can see {}, "
    "in high quality",
    "a short film, colourful and very detailed, that begins with clouds over green hills and "
    "then shows {}",
)
_STYLE_CONTEXT = (
    "a city street in the style of {}",
    "a portrait of a woman, painted by {}",
    "a beach at sunset, in the style of {}",
    "a bowl of fruit as {} would paint it",
    "a horse in a meadow, in the style of {}",
    "an exhibition poster by {}",
)
_STYLE_LONG = (
    "a wide and detailed view of a quiet village in the morning, with soft light, a few trees "
    "and a river, in the style of {}",
    "two people who sit at a table near a window and drink coffee, painted by {}, in high quality",
    "a short film, colourful and very detailed, of clouds over green hills, in the style of {}",
)
_ACTION_CONTEXT = (
    "a dog {} in a park",
    "two children {} on a beach",
    "a man {} in a city street",
    "an old woman {} at home",
    "a robot {} in space",
    "a horse {} in a meadow",
)
_ACTION_LONG = (
    "a wide and detailed view of a quiet street in the morning, with soft light and a few trees, "
    "where a young man is {}",
    "on a warm summer evening, in front of old houses and a calm river, a woman is {}, "
    "in high quality",
    "a short film, colourful and very detailed, that shows a dog {} in front of green hills",
)


def _thing(category: str, neutral: str) -> dict[str, Any]:
    alone = TEMPLATES[category]  # type: ignore[index]
    return {"alone": alone, "context": _THING_CONTEXT, "long": _THING_LONG, "neutral": neutral}


DEFAULT_TEMPLATES: dict[str, dict[str, Any]] = {
    "character": _thing("character", "a cartoon character"),
    "object": _thing("object", "something"),
    "person": _thing("person", "a person"),
    "style": {
        "alone": TEMPLATES["style"],
        "context": _STYLE_CONTEXT,
        "long": _STYLE_LONG,
        "neutral": "an artist",
    },
    "action": {
        "alone": TEMPLATES["action"],
        "context": _ACTION_CONTEXT,
        "long": _ACTION_LONG,
        "neutral": "moving",
    },
    "background": {
        "alone": ("{}", "a picture of {}", "a wide view of {}"),
        "context": ("a person in {}", "a dog in {}", "a car in {}"),
        "long": ("a wide and very detailed view of {} in the morning, with soft light",),
        "neutral": "a plain background",
    },
}
