"""What an engine's rounding costs: errors of predictions, of frames, and of what a judge sees."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from benchmarks.engines.variants import YARDSTICK
from unsee.export.engines.session import Array
from unsee.export.text_to_video.sampling_check import psnr
from unsee.models.quiet import quiet_libraries

ALL = "all"


class Process(Protocol):
    """An object whose methods are called by name; raises `ProcessFailed`."""

    def call(self, method: str, *arguments: Any) -> Any: ...


@dataclass(frozen=True)
class StepError:
    """Of the noise predicted, over all steps of a clip, in standard deviations of the exact one."""

    rms: float
    largest: float


def step_error(actual: Sequence[Array], exact: Sequence[Array]) -> StepError:
    """How far the predictions of a clip's steps are from the exact ones."""
    wanted = np.stack(exact).astype(np.float64)
    difference = np.abs(np.stack(actual).astype(np.float64) - wanted) / wanted.std()
    return StepError(float(np.sqrt(np.square(difference).mean())), float(difference.max()))


def frames_db(
    engines: Mapping[str, Process], prompts: Sequence[str], seed: int, steps: int
) -> dict[str, dict[str, float]]:
    """By engine, the PSNR in dB of each prompt's frames against the yardstick's, from the same
    noise."""
    clips = {
        name: {prompt: engine.call("clip", prompt, seed, steps)[1] for prompt in prompts}
        for name, engine in engines.items()
    }
    exact = clips.pop(YARDSTICK)
    return {
        name: {prompt: psnr(made[prompt], exact[prompt]) for prompt in prompts}
        for name, made in clips.items()
    }


def recognised(pairs: Sequence[tuple[bool, bool]]) -> dict[str, float]:
    """How many of the concepts that prompts named were seen: with the exact engine, the other, and
    with only one of the two; `points` are what the other gains, in percentage points."""
    exact, other = (sum(side) for side in zip(*pairs, strict=True))
    return {
        "named": len(pairs),
        "exact": exact,
        "other": other,
        "only_exact": sum(a and not b for a, b in pairs),
        "only_other": sum(b and not a for a, b in pairs),
        "points": 100 * (other - exact) / len(pairs),
    }


def judged(
    exact: Process,
    other: Process,
    questions: Sequence[tuple[str, Any]],
    judge: Callable[[Array, Any], Mapping[str, bool]],
    categories: Mapping[str, str],
    steps: int,
    say: Callable[[str], None],
) -> dict[str, dict[str, float]]:
    """What `judge` sees of the clips of both engines, by category and, first, `ALL`.

    A question is a prompt and what it shows; `judge` says of frames and the latter whether each
    concept is seen, and `categories` gives each concept's. The i-th clip has the seed i.
    """
    seen: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for seed, (prompt, shown) in enumerate(questions):
        if seed % 8 == 0:
            say(f"judging clips {seed + 1} to {min(seed + 8, len(questions))}")
        outcomes = [
            judge(engine.call("clip", prompt, seed, steps)[1], shown) for engine in (exact, other)
        ]
        for concept, by_exact in outcomes[0].items():
            pair = (by_exact, outcomes[1][concept])
            seen[categories[concept]].append(pair)
            seen[ALL].append(pair)
    groups = sorted(seen, key=lambda group: (group != ALL, group))
    return {group: recognised(seen[group]) for group in groups}


def playground_questions(count: int, seed: int) -> list[tuple[str, Any]]:
    """Prompts of the embedded base with what they show; its concepts take turns."""
    from unsee.playground.world.captions import prompt_for
    from unsee.playground.world.world import CONCEPTS

    rng = np.random.default_rng(seed)
    return [prompt_for(CONCEPTS[i % len(CONCEPTS)], rng) for i in range(count)]


def playground_judge() -> tuple[Callable[[Array, Any], Mapping[str, bool]], dict[str, str]]:
    """The embedded base's own judge, and every concept's category."""
    with quiet_libraries():
        from unsee.playground.networks.judge import Judge
        from unsee.playground.quality.evaluate import Trial
        from unsee.playground.training.train_data import BASE_DIR
        from unsee.playground.world.world import CONCEPTS

    judge = Judge.from_pretrained(BASE_DIR / "judge")

    def outcomes(frames: Array, scene: Any) -> Mapping[str, bool]:
        return Trial(scene, judge.classify(frames[None])[0]).outcomes()

    return outcomes, {concept.name: concept.category for concept in CONCEPTS}
