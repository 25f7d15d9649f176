"""Which clips the report shows: the first of each kind, chosen before anyone has seen them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unsee.evaluation.report.schema import Media
from unsee.evaluation.seeing.frame_store import Frames
from unsee.evaluation.seeing.measures import Observation
from unsee.media.sheet import evenly_spaced

ExampleKind = Literal["erased", "sibling", "other", "attack"]

_ORDER: tuple[ExampleKind, ...] = ("erased", "sibling", "other", "attack")
_PER_WORDING = 2
_PER_CONCEPT = 1
_MOST_KEPT = 6
_MOST_ERASED = 48
_MOST_ATTACKS = 30
FRAMES_PER_STRIP = 4


@dataclass(frozen=True, eq=False)
class Example:
    """One prompt and seed through both encoders.

    Args:
        title: the prompt.
        base: uint8 [F, H, W, 3] (an image has F = 1), at most `FRAMES_PER_STRIP` frames, evenly
            chosen, first and last among them; `tuned` has the same shape.
        base_seen: whether `base` was recognised as the concept that the prompt is about.
    """

    title: str
    kind: ExampleKind
    base: NDArray[np.uint8]
    tuned: NDArray[np.uint8]
    base_seen: bool
    tuned_seen: bool


@dataclass(frozen=True)
class ExampleShelf:
    """Collects examples in one medium as they are made; of many concepts fewer each."""

    media: Media
    num_concepts: int = 1
    _shown: list[Example] = field(default_factory=list)
    _counts: Counter[tuple[str, ...]] = field(default_factory=Counter)

    def keep(self, observation: Observation, base: Frames, tuned: Frames) -> None:
        """Take the clips [F, H, W, 3] of `observation` if its kind still lacks some."""
        question = observation.question
        kind, concept = question.kind, question.concept.name
        if observation.media != self.media:
            return
        if kind == "erased":
            most = max(1, _MOST_ERASED // self.num_concepts)
            if self._counts[kind, concept] < most and self._take(
                _PER_WORDING, kind, concept, question.wording
            ):
                self._counts[kind, concept] += 1
                seen = observation.base.lasting, observation.tuned.lasting
                self._add(question.prompt, kind, base, tuned, seen)
        elif kind in ("sibling", "other"):
            full = self._counts[(kind,)] >= _MOST_KEPT
            if not full and self._take(_PER_CONCEPT, kind, concept):
                self._counts[(kind,)] += 1
                seen = observation.base.whole, observation.tuned.whole
                self._add(question.prompt, kind, base, tuned, seen)

    def keep_attack(
        self, media: Media, title: str, base: Frames, tuned: Frames, seen: tuple[bool, bool]
    ) -> None:
        """Show one attack's clips [F, H, W, 3]; `seen` is (base, tuned)."""
        if media == self.media and self._take(_MOST_ATTACKS, "attack"):
            self._add(title, "attack", base, tuned, seen)

    def examples(self) -> list[Example]:
        """All that was kept, the unseen concepts first."""
        return sorted(self._shown, key=lambda example: _ORDER.index(example.kind))

    def _take(self, most: int, *key: str) -> bool:
        self._counts[key] += 1
        return self._counts[key] <= most

    def _add(
        self, title: str, kind: ExampleKind, base: Frames, tuned: Frames, seen: tuple[bool, bool]
    ) -> None:
        count = min(len(base), FRAMES_PER_STRIP)  # copies: the frames are rows of large arrays
        strips = evenly_spaced(base, count), evenly_spaced(tuned, count)
        self._shown.append(Example(title, kind, *strips, *seen))
