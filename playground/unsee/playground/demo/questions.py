"""Which prompts the demo asks: a third about the concept, the rest about what must be kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from unsee.core.policy import Concept
from unsee.playground.world.captions import prompt_for
from unsee.playground.world.world import CONCEPTS, concepts_in, find_concept
from unsee.playground.world.world import Concept as WorldConcept

Group = Literal["concept", "siblings", "others"]
GROUPS: tuple[Group, ...] = ("concept", "siblings", "others")


@dataclass(frozen=True)
class Question:
    """A prompt, the seed to use, and the concept that the judge looks for in the clip."""

    prompt: str
    seed: int
    concept: str
    group: Group


def choose_questions(concept: Concept, count: int, seed: int) -> list[Question]:
    """`count` questions, a third per group; siblings and others are taken in turn.

    No prompt of the groups to be kept names `concept`.
    """
    rng = np.random.default_rng(seed)
    asked = find_concept(concept.name)
    siblings = [c for c in concepts_in(asked.category) if c != asked]
    others = [c for c in CONCEPTS if c.category not in (asked.category, "background")]
    per_group = count // len(GROUPS)
    sizes = {"concept": count - 2 * per_group, "siblings": per_group, "others": per_group}
    pools = {
        "concept": [asked],
        "siblings": siblings,
        "others": [others[int(i)] for i in rng.permutation(len(others))],
    }
    questions = []
    for group in GROUPS:
        for i in range(sizes[group]):
            wanted = pools[group][i % len(pools[group])]
            avoid = None if group == "concept" else concept.name
            questions.append(
                Question(_prompt(wanted, rng, avoid), 1000 * seed + i, wanted.name, group)
            )
    return questions


def _prompt(wanted: WorldConcept, rng: np.random.Generator, avoid: str | None) -> str:
    while True:
        prompt, scene = prompt_for(wanted, rng)
        if avoid is None or avoid not in (scene.subject, scene.style, scene.action):
            return prompt
