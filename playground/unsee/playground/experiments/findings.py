"""What was found about every concept, mode and seed so far: gathered from disk, and as a record."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from safetensors import safe_open

from unsee.core.errors import UnseeError
from unsee.core.policy import Thresholds
from unsee.core.unlearning_settings import Settings
from unsee.deltas.delta import Card
from unsee.deltas.folder import TENSORS_FILE, load_card
from unsee.evaluation.report.schema import Report, load_report
from unsee.evaluation.report.verdict import verdict_of
from unsee.evaluation.run_folder import load_inputs
from unsee.evaluation.target import open_target
from unsee.models.base import Base
from unsee.playground.experiments import counts
from unsee.playground.experiments.counts import ORDINARY, REWRITTEN, TRANSLATED, Counts
from unsee.playground.experiments.own_base import MODES, UNLEARNABLE, Mode, concept_folder
from unsee.playground.networks.mixed_precision import bfloat16_pays

_MADE_WITH = (
    "recogniser_digest",
    "questions_digest",
    "num_frames",
    "num_inference_steps",
    "guidance_scale",
)


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

    def gathered(self, like: Path | None = None) -> list[Finding]:
        """Everything that is finished, by mode, seed and the world's order.

        Of reports in the folder ``like`` and elsewhere only those that were `made_alike`.
        """
        return [
            finding
            for mode in self.settings
            for seed in self._seeds(mode)
            for concept in UNLEARNABLE
            if (finding := self._finding(mode, seed, concept.name, like)) is not None
        ]

    def _seeds(self, mode: Mode) -> Sequence[int]:
        folders = (self.build_dir / mode).glob("seed-*")
        numbers = (folder.name.removeprefix("seed-") for folder in folders)
        return sorted(int(number) for number in numbers if number.isdecimal())

    def _finding(self, mode: Mode, seed: int, concept: str, like: Path | None) -> Finding | None:
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
            if like is not None and not made_alike(folder / "report", like):
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


def made_alike(one: Path, other: Path) -> bool:
    """Whether the reports in two folders were made with the same denoisers, clips, questions and
    recogniser; they may ask for other concepts, and for more or less.

    Raises `InputError` if one of them is missing.
    """
    here, there = _made_with(one), _made_with(other)
    return all(here[name] == there[name] for name in here.keys() & there.keys())


def _made_with(folder: Path) -> dict[str, Any]:
    settings, inputs = load_report(folder).settings, load_inputs(folder)
    found = {name: getattr(settings, name) for name in _MADE_WITH}
    return found if inputs is None else found | inputs.models


def _num_values(file: Path) -> int:
    with safe_open(file, framework="pt") as tensors:
        return sum(prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118


def record(
    findings: Sequence[Finding],
    settings: Mapping[Mode, Settings],
    machine: Mapping[str, str],
) -> dict[str, Any]:
    """The findings for the page of results, as JSON; there must be one."""
    by_mode = {mode: [one for one in findings if one.mode == mode] for mode in MODES}
    by_mode = {mode: found for mode, found in by_mode.items() if found}
    shown = [one.report for one in list(by_mode.values())[-1]]
    clip = shown[0].settings
    concepts: dict[str, dict[str, dict[str, Any]]] = {}
    for finding in findings:
        seeds = concepts.setdefault(finding.mode, {})
        seeds.setdefault(f"seed-{finding.seed}", {})[finding.concept] = _recorded(finding)
    return {
        "settings": {mode: asdict(settings[mode]) for mode in by_mode},
        "machine": dict(machine),
        "products": "bfloat16" if bfloat16_pays() else "float32",
        "num_concepts": len(UNLEARNABLE),
        "clip": {
            "num_frames": clip.num_frames,
            "num_inference_steps": clip.num_inference_steps,
            "guidance_scale": clip.guidance_scale,
        },
        "gate": {mode: _gate([one.report for one in found]) for mode, found in by_mode.items()},
        "attacked": sum(bool(report.attacks) for report in shown),
        "attacks": attack_budgets(shown),
        "concepts": concepts,
    }


def _recorded(finding: Finding) -> dict[str, Any]:
    return {
        "seconds": round(finding.seconds, 2),
        "values": finding.values,
        "bytes": finding.num_bytes,
        "anchor": finding.anchor,
        "motion_ratio": counts.motion_ratio(finding.report),
        **counts.answered(_columns(finding.report)),
    }


def _columns(report: Report) -> dict[str, Counts]:
    """The counts of one report by the page's titles."""
    found = {
        "images": counts.forgotten(report, "image", ORDINARY),
        "clips": counts.forgotten(report, "video", ORDINARY),
        "clips, lasting": counts.forgotten(report, "video", ORDINARY, "lasting"),
        "clips, mean frame": counts.forgotten(report, "video", ORDINARY, "mean_frame"),
        "clips, rewritten": counts.forgotten(report, "video", REWRITTEN),
        "clips, rewritten, lasting": counts.forgotten(report, "video", REWRITTEN, "lasting"),
        "clips, rewritten, mean frame": counts.forgotten(report, "video", REWRITTEN, "mean_frame"),
        "clips, translated": counts.forgotten(report, "video", TRANSLATED),
        "clips, translated, lasting": counts.forgotten(report, "video", TRANSLATED, "lasting"),
        "clips, translated, mean frame": counts.forgotten(
            report, "video", TRANSLATED, "mean_frame"
        ),
        "other shapes": counts.shaped(report, "video"),
        "other shapes, lasting": counts.shaped(report, "video", "lasting"),
        "siblings, images": counts.kept(report, "image", "sibling"),
        "siblings, clips": counts.kept(report, "video", "sibling"),
        "translated siblings, images": counts.kept(report, "image", "translated"),
        "translated siblings, clips": counts.kept(report, "video", "translated"),
        "others, images": counts.kept(report, "image", "other"),
        "others, clips": counts.kept(report, "video", "other"),
    }
    attacks = {title: counts.attacked(report, media) for title, media in counts.MEDIA.items()}
    lasting = counts.attacked(report, "video", "lasting")
    for attack in attacks["clips"]:
        found |= {f"{attack}, {title}": attacks[title][attack] for title in attacks}
        found[f"{attack}, clips, lasting"] = lasting[attack]
    return found


def _gate(reports: Sequence[Report]) -> dict[str, Any]:
    """How many encoders `unsee publish` would let through by its default thresholds."""
    verdicts = [verdict_of(report, Thresholds()) for report in reports]
    missed = Counter(c.name for verdict in verdicts for c in verdict.checks if not c.passed)
    return {
        "encoders": len(reports),
        "passed": sum(verdict.passed for verdict in verdicts),
        "missed": dict(missed.most_common()),
    }


def attack_budgets(reports: Sequence[Report]) -> dict[str, Any]:
    """Budget, source and mean seconds of every attack."""
    rows = [row for report in reports for row in report.attacks]
    return {
        name: {
            "budget": last.budget,
            "source": last.source,
            "seconds": round(
                statistics.fmean(r.seconds for r in rows if counts.attack_of(r) == name), 2
            ),
        }
        for name, last in {counts.attack_of(row): row for row in rows}.items()
    }
