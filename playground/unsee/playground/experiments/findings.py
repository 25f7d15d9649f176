"""What was found about every concept, mode and seed: the record of the page of results."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unsee.core.policy import Thresholds
from unsee.core.unlearning_settings import Settings
from unsee.evaluation.report.schema import Report
from unsee.evaluation.report.verdict import verdict_of
from unsee.playground.experiments import counts
from unsee.playground.experiments.counts import ORDINARY, REWRITTEN, TRANSLATED, Counts
from unsee.playground.experiments.own_base import MODES, UNLEARNABLE, Mode
from unsee.playground.networks.mixed_precision import bfloat16_pays


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


def asked_alike(report: Report) -> dict[str, Any]:
    """What every finding of one record has in common, besides the base."""
    clip = report.settings
    return {
        "products": "bfloat16" if bfloat16_pays() else "float32",
        "num_concepts": len(UNLEARNABLE),
        "clip": {
            "num_frames": clip.num_frames,
            "num_inference_steps": clip.num_inference_steps,
            "guidance_scale": clip.guidance_scale,
        },
        "questions_digest": clip.questions_digest,
    }


def with_finding(
    found: Mapping[str, Any], finding: Finding, settings: Settings, machine: Mapping[str, str]
) -> dict[str, Any]:
    """``found``, which is {} or came from here, with one more finding, for the page of results.

    The finding takes the place of one of the same mode, seed and concept; those of its mode with
    other settings are left out.
    """
    used = json.loads(json.dumps(asdict(settings)))
    known: dict[str, Any] = dict(found.get("settings", {}))
    concepts = {mode: dict(seeds) for mode, seeds in found.get("concepts", {}).items()}
    if known.get(finding.mode) != used:
        concepts[finding.mode] = {}
    seeds = concepts[finding.mode]
    seed = f"seed-{finding.seed}"
    seeds[seed] = {**seeds.get(seed, {}), finding.concept: _recorded(finding)}
    concepts = {mode: _in_order(concepts[mode]) for mode in MODES if mode in concepts}
    entries = {
        mode: [one for seed in seeds.values() for one in seed.values()]
        for mode, seeds in concepts.items()
    }
    attacks = [one["attacks"] for one in list(entries.values())[-1] if one["attacks"]]
    return {
        "settings": {mode: (known | {finding.mode: used})[mode] for mode in concepts},
        "machine": dict(machine),
        "gate": {mode: _gate(found) for mode, found in entries.items()},
        "attacked": len(attacks),
        "attacks": _budgets(row for rows in attacks for row in rows),
        "concepts": concepts,
    }


def _in_order(seeds: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """By seed, and in it by concept as the world has them."""
    return {
        seed: {one.name: seeds[seed][one.name] for one in UNLEARNABLE if one.name in seeds[seed]}
        for seed in sorted(seeds, key=lambda name: int(name.removeprefix("seed-")))
    }


def _recorded(finding: Finding) -> dict[str, Any]:
    verdict = verdict_of(finding.report, Thresholds())
    return {
        "seconds": round(finding.seconds, 2),
        "values": finding.values,
        "bytes": finding.num_bytes,
        "anchor": finding.anchor,
        "motion_ratio": counts.motion_ratio(finding.report),
        "missed": [check.name for check in verdict.checks if not check.passed],
        "attacks": _attacks(finding.report),
        **counts.answered(_columns(finding.report)),
    }


def _gate(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many encoders `unsee publish` would let through by its default thresholds."""
    missed = [one["missed"] for one in entries]
    return {
        "encoders": len(entries),
        "passed": sum(not names for names in missed),
        "missed": dict(Counter(name for names in missed for name in names).most_common()),
    }


def attack_budgets(reports: Iterable[Report]) -> dict[str, Any]:
    """Budget, source and mean seconds of every attack."""
    return _budgets(row for report in reports for row in _attacks(report))


def _attacks(report: Report) -> list[dict[str, Any]]:
    return [
        {
            "attack": counts.attack_of(row),
            "budget": row.budget,
            "source": row.source,
            "seconds": row.seconds,
        }
        for row in report.attacks
    ]


def _budgets(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["attack"], []).append(row)
    return {
        name: {
            "budget": same[-1]["budget"],
            "source": same[-1]["source"],
            "seconds": round(statistics.fmean(row["seconds"] for row in same), 2),
        }
        for name, same in found.items()
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
