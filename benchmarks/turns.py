"""Measures engines in turn: every turn asks each of them once, in an order drawn anew.

Knows runners in processes of their own; does not know what they compute.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from meter import peak_flops
from own_process import KeptProcess, ProcessFailed

from unsee.export.engines.machine import this_machine
from unsee.export.engines.measurement import Feeds

LEAST_STEP_S = 0.3
"""So long at least an engine's step is repeated within a turn."""
_MATMUL_EDGE = 2048
PRECISIONS = ("float32", "bfloat16")


class Process(Protocol):
    """An object whose methods are called by name; raises `ProcessFailed`."""

    def call(self, method: str, *arguments: Any) -> Any: ...


@dataclass(frozen=True)
class Question:
    """What every engine is asked: a clip of a prompt in some steps, and one call of the UNet.

    `turns` count steps; the first `clip_turns` of them make a whole clip too.
    """

    prompt: str
    seed: int
    steps: int
    feeds: Feeds
    turns: int
    clip_turns: int


@dataclass
class Seconds:
    """What one engine took, one value a turn."""

    step: list[float] = field(default_factory=list)
    clip: list[float] = field(default_factory=list)


class Peak:
    """The machine's fastest product of two matrices, measured anew at every call."""

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def flops(self) -> dict[str, float]:
        """Operations a second by precision."""
        cpu = torch.device("cpu")
        return {p: peak_flops(cpu, getattr(torch, p), _MATMUL_EDGE) for p in PRECISIONS}


def machine_facts() -> dict[str, Any]:
    """This machine and the versions of what runs on it, as JSON has them."""
    facts = this_machine().model_dump()
    return facts | {"versions": {"torch": torch.__version__, **facts["versions"]}}


def open_all(
    stack: ExitStack, jobs: Mapping[str, Any], make: Callable[[Any], Any]
) -> tuple[dict[str, KeptProcess], dict[str, str]]:
    """A process for each job, kept until `stack` ends, and why a job has none."""
    opened: dict[str, KeptProcess] = {}
    failures: dict[str, str] = {}
    for name, job in jobs.items():
        try:
            opened[name] = stack.enter_context(KeptProcess(make, job))
        except ProcessFailed as failed:
            failures[name] = str(failed)
    return opened, failures


def take_turns(
    engines: Mapping[str, Process],
    peak: Process,
    question: Question,
    seed: int,
    say: Callable[[str], None],
) -> tuple[dict[str, Seconds], dict[str, float]]:
    """Each engine's seconds, and the best that the machine showed in any turn.

    An engine must have been asked before: what its first call takes does not count.
    """
    chance = random.Random(seed)
    seconds = {name: Seconds() for name in engines}
    best = dict.fromkeys(PRECISIONS, 0.0)
    repeats = {name: _repeats(engine, question.feeds) for name, engine in engines.items()}
    for turn in range(question.turns):
        say(f"turn {turn + 1} of {question.turns}")
        for name in _in_random_order([*engines, ""], chance):
            if not name:
                best = _better(best, peak.call("flops"))
                continue
            taken = engines[name].call("step_seconds", question.feeds, repeats[name])
            seconds[name].step.append(taken)
            if turn < question.clip_turns:
                asked = (question.prompt, question.seed, question.steps)
                seconds[name].clip.append(engines[name].call("clip", *asked)[0])
    return seconds, best


def _repeats(engine: Process, feeds: Feeds) -> int:
    seconds: float = engine.call("step_seconds", feeds, 1)
    return max(1, math.ceil(LEAST_STEP_S / seconds))


def _in_random_order(names: Sequence[str], chance: random.Random) -> list[str]:
    return chance.sample(names, len(names))


def _better(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {precision: max(value, other[precision]) for precision, value in one.items()}
