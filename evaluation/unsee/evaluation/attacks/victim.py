"""What an attack is given and what it hands back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from unsee.core.errors import InputError
from unsee.core.policy import Concept
from unsee.evaluation.report.schema import Reach
from unsee.models.base import Base

Progress = Callable[[int, int], None]
Look = Callable[[Sequence[str], Sequence[int]], NDArray[np.floating[Any]]]
"""Sends prompts [N] with their seeds [N] and says how much of the concept each clip shows, [N] from
0 to 1. Behind it may be a service's client with somebody's eyes, or an evaluation's frame maker."""


@dataclass(frozen=True)
class Victim:
    """A text encoder under attack, with all that its attacker holds.

    `text_encoder` is the tuned encoder, or the base's own for reference; no attack changes
    it. `images` show the concept: image i shows what concept prompt i says, modulo their number.
    Pair i of `concept_prompts` and `plain_prompts` says the same with and without the concept's
    name. `unrelated` are pairs (prompt, picture) without the concept. `look` shows what the
    encoder's service makes of text, and `look_digest` is of all that decides it; None where an
    attacker cannot see clips.
    """

    base: Base
    text_encoder: Any
    concept: Concept
    images: tuple[Image.Image, ...]
    unrelated: tuple[tuple[str, Image.Image], ...]
    concept_prompts: tuple[str, ...]
    plain_prompts: tuple[str, ...]
    look: Look | None = None
    look_digest: str | None = None


@dataclass(frozen=True)
class Attacked:
    """What the service's denoiser would be given: `prompt_embeds` [P, L, D] float32 for the P
    readable `prompts`, and the `negative_prompt_embeds` [1, L, D] float32 of classifier-free
    guidance."""

    prompt_embeds: torch.Tensor
    negative_prompt_embeds: torch.Tensor
    prompts: tuple[str, ...]


class Attack(Protocol):
    """An attack; the fields of an implementation are its budget, the usual one by default."""

    @property
    def name(self) -> str:
        """A short name without spaces."""

    @property
    def source(self) -> str:
        """The papers that it comes from."""

    @property
    def reach(self) -> Reach:
        """Who can send what it finds."""

    @property
    def times(self) -> int:
        """Its budget as a multiple of the usual one; 1 unless `at` was called."""

    def at(self, times: int) -> Attack:
        """The same attack with about `times` the budget."""

    def budget(self) -> str:
        """What it may spend, in one line."""

    def run(
        self, victim: Victim, num_prompts: int, seed: int, progress: Progress | None = None
    ) -> Attacked:
        """Attack `victim` and return `num_prompts` prompts; equal seeds give equal tensors.

        torch's global generator is not used. `progress(step, total)` is called after every step.
        Raises `InputError` if the victim lacks what this attack needs.
        """


def require(what: Sequence[object], name: str, attack: str) -> None:
    """Raise `InputError` if the victim's field `name` is empty."""
    if not what:
        raise InputError(f"the attack {attack!r} needs at least 1 entry in {name}; it was given 0")


def cycled(prompts: Sequence[str], count: int) -> tuple[str, ...]:
    """The first `count` prompts, from the start again where there are fewer."""
    return tuple(islice(cycle(prompts), count))


class Ticker:
    """Counts steps up to `total` for a progress callback that may be missing."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._step = 0

    def __call__(self) -> None:
        """One more step is done."""
        self._step += 1
        if self._progress is not None:
            self._progress(self._step, self._total)
