"""Which clips the report shows: the first of each kind, chosen before anyone has seen them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from unsee.evaluation.report.schema import Media
from unsee.evaluation.seeing.frame_store import Frames
from unsee.evaluation.seeing.measures import Observation

if TYPE_CHECKING:
    from unsee.evaluation.page.html_report import Example

ExampleKind = Literal["erased", "sibling", "other", "attack"]

_ORDER: tuple[ExampleKind, ...] = ("erased", "sibling", "other", "attack")
_PER_WORDING = 2
_PER_CONCEPT = 1
_MOST_KEPT = 6


@dataclass(frozen=True)
class ExampleShelf:
    """Collects examples in one medium as they are made."""

    media: Media
    _shown: list[Example] = field(default_factory=list)
    _counts: Counter[tuple[str, ...]] = field(default_factory=Counter)

    def keep(self, observation: Observation, base: Frames, tuned: Frames) -> None:
        """Take the clips [F, H, W, 3] of `observation` if its kind still lacks some."""
        question = observation.question
        kind, concept = question.kind, question.concept.name
        if observation.media != self.media:
            return
        if kind == "erased":
            if self._take(_PER_WORDING, kind, concept, question.wording):
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
        if media == self.media:
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
        from unsee.evaluation.page.html_report import Example

        self._shown.append(
            Example(
                title=title,
                kind=kind,
                media=self.media,
                base=base,
                tuned=tuned,
                base_seen=seen[0],
                tuned_seen=seen[1],
            )
        )
