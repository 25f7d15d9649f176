"""What was found about every concept, mode and seed so far: the deltas and reports on disk.

Knows which of them belong to today's base and settings; does not know how they were made or shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from safetensors import safe_open

from unsee.core.errors import UnseeError
from unsee.core.unlearning_settings import Settings
from unsee.deltas.delta import Card
from unsee.deltas.folder import TENSORS_FILE, load_card
from unsee.evaluation.report.schema import Report, load_report
from unsee.evaluation.target import open_target
from unsee.models.base import Base
from unsee.playground.experiments.own_unlearning import UNLEARNABLE, Mode, concept_folder


@dataclass(frozen=True)
class Finding:
    """One concept unlearned with one mode and seed.

    ``seconds`` are those of unlearning, images included, by the delta's card; ``values`` and
    ``num_bytes`` are the delta's size, ``anchor`` is what it shows in the concept's place.
    """

    mode: Mode
    seed: int
    concept: str
    report: Report
    seconds: float
    values: int
    num_bytes: int
    anchor: str | None = None


@dataclass(frozen=True)
class Gatherer:
    """Finds what is finished below ``build_dir``, for this base and these settings only."""

    base: Base
    build_dir: Path
    settings: Mapping[Mode, Settings]
    _digests: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    def gathered(self) -> list[Finding]:
        """Everything that is finished, by mode, seed and the world's order."""
        return [
            finding
            for mode in self.settings
            for seed in self._seeds(mode)
            for concept in UNLEARNABLE
            if (finding := self._finding(mode, seed, concept.name)) is not None
        ]

    def _seeds(self, mode: Mode) -> Sequence[int]:
        folders = (self.build_dir / mode).glob("seed-*")
        numbers = (folder.name.removeprefix("seed-") for folder in folders)
        return sorted(int(number) for number in numbers if number.isdecimal())

    def _finding(self, mode: Mode, seed: int, concept: str) -> Finding | None:
        """None if the delta or its report is absent, unfinished or of something else."""
        folder = concept_folder(self.build_dir, mode, seed, concept)
        if not (folder / "report").is_dir() or not (folder / "delta").is_dir():
            return None
        try:
            card, report = load_card(folder / "delta"), load_report(folder / "report")
            expected = (self.base.digest(), self.settings[mode], seed)
            if (card.base_digest, card.settings, card.seed) != expected:
                return None
            if report.target.encoder_digest != self._encoder_digest(card, folder / "delta"):
                return None
            file = folder / "delta" / TENSORS_FILE
            values, num_bytes = _num_values(file), file.stat().st_size
        except UnseeError:
            return None
        seconds = sum(card.seconds.values())
        return Finding(mode, seed, concept, report, seconds, values, num_bytes, card.anchor)

    def _encoder_digest(self, card: Card, delta: Path) -> str:
        key = card.tensors_digest
        if key not in self._digests:
            self._digests[key] = open_target(delta, self.base).encoder_digest
        return self._digests[key]


def _num_values(file: Path) -> int:
    with safe_open(file, framework="pt") as tensors:
        return sum(prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
