"""Which prompts the demo asks: a third about the concept, the rest about what must be kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unsee.playground.world.captions import prompt_for
from unsee.playground.world.languages import ENGLISH, Language
from unsee.playground.world.world import CONCEPTS, Concept, concepts_in

Group = Literal["concept", "siblings", "others"]
GROUPS: tuple[Group, ...] = ("concept", "siblings", "others")


@dataclass(frozen=True)
class Question:
    """A prompt, the seed to use, and the concept that the judge looks for in the clip."""

    prompt: str
    seed: int
    concept: str
    group: Group


def choose_questions(
    concept: Concept, count: int, seed: int, languages: Sequence[Language] = (ENGLISH,)
) -> list[Question]:
    """`count` questions, a third per group; siblings, others and languages are taken in turn.

    No prompt of the groups to be kept names `concept`.
    """
    rng = np.random.default_rng(seed)
    siblings = [c for c in concepts_in(concept.category) if c != concept]
    others = [c for c in CONCEPTS if c.category not in (concept.category, "background")]
    per_group = count // len(GROUPS)
    sizes = {"concept": count - 2 * per_group, "siblings": per_group, "others": per_group}
    pools = {
        "concept": [concept],
        "siblings": siblings,
        "others": [others[int(i)] for i in rng.permutation(len(others))],
    }
    questions = []
    for group in GROUPS:
        for i in range(sizes[group]):
            wanted = pools[group][i % len(pools[group])]
            avoid = None if group == "concept" else concept.name
            prompt = _prompt(wanted, rng, avoid, languages[i % len(languages)])
            questions.append(Question(prompt, 1000 * seed + i, wanted.name, group))
    return questions


def _prompt(
    wanted: Concept, rng: np.random.Generator, avoid: str | None, language: Language
) -> str:
    while True:
        prompt, scene = prompt_for(wanted, rng, language)
        if avoid is None or avoid not in (scene.subject, scene.style, scene.action):
            return prompt
