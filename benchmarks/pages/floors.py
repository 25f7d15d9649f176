"""What `floors.md.jinja` needs beside its record: the table of rules, and counts by concept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from benchmarks.pages.figures import pooled
from unsee.evaluation.report.schema import lasting_frames
from unsee.playground.experiments.recognition_rules import SIDES, rule_lines, rule_name

Counts = dict[str, int]


def context(records: Mapping[str, Any]) -> dict[str, Any]:
    """The lines of the rules, the best and the gate's of them, and counts by concept and of all."""
    record = records["floors"]
    by_concept = {name: _counts(one) for name, one in record["concepts"].items()}
    num_frames = record["clip"]["num_frames"]
    lines = rule_lines(list(record["concepts"].values()))
    most = max((round(line.separation, 3) for line in lines), default=0.0)
    return {
        "lines": [asdict(line) for line in lines],
        "best": [line.rule for line in lines if round(line.separation, 3) == most],
        "chosen": rule_name(lasting_frames(num_frames), num_frames),
        "by_concept": by_concept,
        "together": {
            rule: pooled(one[rule] for one in by_concept.values())
            for rule in ("lasting", "any_frame")
        },
    }


def _counts(concept: Mapping[str, Any]) -> dict[str, Counts]:
    """By rule; an action's clips count as a whole."""
    if not concept["clips"]:
        whole = pooled(concept["whole"].values())
        return {"lasting": whole, "any_frame": whole}
    rules = {"lasting": lasting_frames(concept["num_frames"]), "any_frame": 1}
    return {
        rule: pooled(
            {
                **{side: sum(count >= least for count in row[side]) for side in SIDES},
                "n": len(row["tuned"]),
            }
            for row in concept["clips"].values()
        )
        for rule, least in rules.items()
    }
