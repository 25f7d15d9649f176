"""The drawn world: its concepts, and scenes made of them.

``render`` draws a scene and ``captions`` describes it. No name belongs to a real person or artist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

FRAME_SIZE = 64
NUM_FRAMES = 16


@dataclass(frozen=True)
class Concept:
    """One thing that can be seen; ``aliases`` are other words that mean the same."""

    name: str
    category: str
    description: str
    aliases: tuple[str, ...] = ()


CONCEPTS: tuple[Concept, ...] = (
    Concept("Blimbo", "character", "a round purple blob with one eye and two antennae"),
    Concept("Zorpik", "character", "a green cone with three eyes and zigzag arms"),
    Concept("Mipsu", "character", "a pink creature with long ears and a white belly"),
    Concept("Druzzle", "character", "a blue water drop with sleepy eyes"),
    Concept("Takkit", "character", "an orange box with a beak and thin legs"),
    Concept("Fwomp", "character", "a grumpy crimson star with five arms"),
    Concept("Oskrivane", "style", "a poster in three tones of teal, orange and cream"),
    Concept("Belzhura", "style", "ink outlines and a pale wash on white paper"),
    Concept("Quillomar", "style", "square mosaic tiles with dark grout"),
    Concept("Threndalo", "style", "big magenta halftone dots on yellow paper"),
    Concept("Yuvashti", "style", "glowing neon edges on black"),
    Concept("Kromblisk", "style", "sepia and broad wavy bands"),
    Concept("umbrella", "object", "an open umbrella", ("parasol",)),
    Concept("house", "object", "a small house", ("cottage",)),
    Concept("tree", "object", "a leafy tree", ("oak tree",)),
    Concept("car", "object", "a small car", ("automobile",)),
    Concept("mushroom", "object", "a spotted mushroom", ("toadstool",)),
    Concept("boat", "object", "a sailing boat", ("ship", "sailboat")),
    Concept("cup", "object", "a cup with a handle", ("mug", "teacup")),
    Concept("kite", "object", "a diamond kite with a tail", ("paper kite",)),
    Concept("Ulmi Zandrake", "person", "a woman with a huge round hairdo and gold hoops"),
    Concept("Boro Yentifax", "person", "a bald man with a huge ginger beard"),
    Concept("Sellith Pomquart", "person", "a woman with long blonde hair and red glasses"),
    Concept("Nadru Vexholm", "person", "a man with a top hat and a moustache"),
    Concept("Iggo Tarnwhistle", "person", "a person with a green mohawk and an eye patch"),
    Concept("Keph Lorumbay", "person", "a person with a grey bun and big square glasses"),
    Concept("jumping", "action", "bounces up and down", ("leaping", "hopping", "bouncing")),
    Concept("spinning", "action", "turns all the way round", ("rotating", "twirling")),
    Concept("sliding", "action", "moves across the picture", ("walking across", "gliding by")),
    Concept("falling", "action", "drops from top to bottom", ("dropping down", "tumbling down")),
    Concept("growing", "action", "becomes larger", ("getting bigger", "expanding")),
    Concept("shaking", "action", "jerks left and right", ("trembling", "wobbling")),
    Concept("desert", "background", "sand dunes under a hot sun", ("sand dunes",)),
    Concept("ocean", "background", "blue waves", ("sea",)),
    Concept("forest", "background", "dark green firs", ("woods",)),
    Concept("city", "background", "a skyline with lit windows", ("town",)),
    Concept("space", "background", "stars and a planet", ("night sky",)),
)
SUBJECT_CATEGORIES = ("character", "object", "person")
CATEGORIES = ("character", "style", "object", "person", "action", "background")
HEADS = ("subject", "style", "action", "background")
NONE = "none"


def concepts_in(category: str) -> tuple[Concept, ...]:
    """The concepts of one category, in table order."""
    return tuple(concept for concept in CONCEPTS if concept.category == category)


def find_concept(name: str) -> Concept:
    """The concept that carries ``name``; an alias does too.

    Raises:
        KeyError: no concept has that name.
    """
    wanted = name.lower()
    for concept in CONCEPTS:
        if wanted == concept.name.lower() or wanted in concept.aliases:
            return concept
    raise KeyError(f"no concept is called {name!r}; see unsee.playground.world.world.CONCEPTS")


def head_of(category: str) -> str:
    """The label (``subject``, ``style``, …) under which a category is recorded."""
    return "subject" if category in SUBJECT_CATEGORIES else category


LABELS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {head: (NONE, *(c.name for c in CONCEPTS if head_of(c.category) == head)) for head in HEADS}
)


@dataclass(frozen=True)
class Nuisance:
    """What varies without a name; lengths are fractions of the frame."""

    x: float = 0.5
    y: float = 0.5
    scale: float = 0.56
    tilt_deg: float = 0.0
    phase: float = 0.0
    speed: float = 1.0
    direction: int = 1
    drift_x: float = 0.0
    drift_y: float = 0.0
    background_seed: int = 0


@dataclass(frozen=True)
class Scene:
    """What a clip shows. ``None`` means: not there (or, for the action, still)."""

    subject: str | None = None
    style: str | None = None
    action: str | None = None
    background: str | None = None
    nuisance: Nuisance = field(default_factory=Nuisance)

    def label(self, head: str) -> str:
        value: str | None = getattr(self, head)
        return value or NONE

    def label_ids(self) -> tuple[int, ...]:
        """Indices into ``LABELS``, in the order of ``HEADS``."""
        return tuple(LABELS[head].index(self.label(head)) for head in HEADS)

    def with_part(self, head: str, name: str | None) -> Scene:
        """The scene with one of its named parts changed."""
        parts: dict[str, Any] = {head: name}
        return replace(self, **parts)

    def with_concept(self, concept: Concept) -> Scene:
        return self.with_part(head_of(concept.category), concept.name)


@dataclass(frozen=True)
class SceneOdds:
    """Probabilities that a random scene has each part."""

    subject: float = 0.9
    style: float = 0.55
    action: float = 0.55
    background: float = 0.6


STILL_ODDS = SceneOdds(action=0.2)
CLIP_ODDS = SceneOdds(action=0.72, subject=0.95, style=0.45, background=0.5)


def random_nuisance(rng: np.random.Generator, subject: str | None, spread: float = 1.0) -> Nuisance:
    """What varies, ``spread`` (0 to 1) times as far from its middle as it may."""
    is_person = subject is not None and find_concept(subject).category == "person"

    def around(middle: float, reach: float) -> float:
        return middle + spread * reach * float(rng.uniform(-1, 1))

    return Nuisance(
        x=around(0.5, 0.1),
        y=around(0.51, 0.07),
        scale=around(0.75, 0.07) if is_person else around(0.64, 0.08),
        tilt_deg=around(0, 7),
        phase=spread * float(rng.uniform()),
        speed=around(1, 0.15),
        direction=int(rng.choice((-1, 1))),
        drift_x=around(0, 0.02),
        drift_y=around(0, 0.02),
        background_seed=int(rng.integers(2**31)),
    )


def random_scene(
    rng: np.random.Generator, odds: SceneOdds = STILL_ODDS, spread: float = 1.0
) -> Scene:
    """A random scene that shows at least one concept; only a subject can act."""
    chosen: dict[str, str | None] = {}
    for head in HEADS:
        present = rng.uniform() < getattr(odds, head)
        if head == "subject":
            category = str(rng.choice(SUBJECT_CATEGORIES))
            names = [concept.name for concept in concepts_in(category)]
        else:
            names = list(LABELS[head][1:])
        name = str(rng.choice(names))
        chosen[head] = name if present else None
    if chosen["subject"] is None:
        chosen["action"] = None
        if chosen["style"] is None and chosen["background"] is None:
            chosen["background"] = str(rng.choice(LABELS["background"][1:]))
    return Scene(**chosen, nuisance=random_nuisance(rng, chosen["subject"], spread))
