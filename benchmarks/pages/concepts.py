"""The table "all concepts together" of the results: which figures there are, pooled and worst."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.pages.figures import (
    NOTHING,
    excess,
    mean_range,
    percent,
    pooled,
    relative_percent,
)

TITLES = {
    "paper": "paper mode",
    "without-prompts": "default mode without prompts",
    "anchored": "default mode",
}
"""The page is about the last of them that was measured."""
SIZES = {"seconds per concept": ("seconds", 1), "values of a delta": ("values", 0)}
SIZES |= {"bytes of a delta": ("bytes", 0)}

KEPT = ("siblings, clips", "translated siblings, clips", "others, clips")

Record = Mapping[str, Any]
Found = Sequence[Record]
"""Records of one concept and seed each, with the concept's name as `concept`."""


@dataclass(frozen=True)
class Line:
    """One figure: how the base's, a mode's, the floor and the excess over it are written, and how
    bad it is."""

    title: str
    base: Callable[[Found], str]
    tuned: Callable[[Found], str]
    badness: Callable[[Found], float]
    floor: Callable[[Found], str] = lambda found: NOTHING
    excess: Callable[[Found], str] = lambda found: NOTHING


def context(records: Mapping[str, Any]) -> dict[str, Any]:
    """What `results.md.jinja` needs beside the record: findings by mode and concept, the lines."""
    concepts: Mapping[str, Mapping[str, Record]] = records["results"]["concepts"]
    modes = {
        mode: [{**one, "concept": name, "seed": seed} for seed, found in concepts[mode].items()
               for name, one in found.items()]
        for mode in TITLES if mode in concepts
    }  # fmt: skip
    shown = list(modes)[-1]
    found = modes[shown]
    by_concept = {name: [one for one in found if one["concept"] == name] for name in _names(found)}
    every = [one for findings in modes.values() for one in findings]
    return {
        "titles": TITLES,
        "modes": modes,
        "shown": shown,
        "by_concept": by_concept,
        "columns": list(dict.fromkeys(name for one in found for name in pairs_of(one))),
        "rows": [
            (
                line.title,
                line.base(found),
                [line.tuned(each) for each in modes.values()],
                line.floor(found),
                line.excess(found),
                worst(line, by_concept),
            )
            for line in lines(every)
        ],
    }


def pairs_of(one: Record) -> list[str]:
    """The titles of a record's counts."""
    return [name for name, value in one.items() if isinstance(value, dict)]


def lines(found: Found) -> list[Line]:
    """The rows of the table; attacks are those that a record contains."""
    attacks = dict.fromkeys(
        name for one in found for name in pairs_of(one)
        if name.endswith(", clips") and name not in KEPT
    )  # fmt: skip
    rules = {
        "": "{}, any frame",
        ", lasting": "… in a quarter of the frames",
        ", mean frame": "… in the mean frame",
    }
    asked = {
        "concept, clips": "clips",
        "long prompts and synonyms, clips": "clips, rewritten",
        "another language, clips": "clips, translated",
        "other shapes of the name, clips": "other shapes",
        **{f"attack {name}": name for name in attacks},
    }
    known = {name for one in found for name in pairs_of(one)}
    return [
        *(
            _forgotten(rule.format(title), f"{name}{suffix}")
            for title, name in asked.items()
            for suffix, rule in rules.items()
            if f"{name}{suffix}" in known
        ),
        *(_kept(name) for name in KEPT if name in known),
        Line("motion ratio", lambda _: "1", _motion, lambda found: abs(motion(found) - 1)),
        *(_size(title, *size) for title, size in SIZES.items()),
    ]


def worst(line: Line, by_concept: Mapping[str, Found]) -> str:
    """The concept with the worst figure, and the figure; how many others share it."""
    bad = {name: line.badness(found) for name, found in by_concept.items()}
    bad = {name: value for name, value in bad.items() if math.isfinite(value)}
    if not bad:
        return NOTHING
    names = [name for name, value in bad.items() if value == max(bad.values())]
    if len(names) == len(bad) > 1:
        return "all alike"
    others = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return f"{names[0]}{others}: {line.tuned(by_concept[names[0]])}"


def motion(found: Found) -> float:
    """The mean of the ratios of motion; NaN without any."""
    ratios = [one["motion_ratio"] for one in found if one["motion_ratio"] is not None]
    return statistics.fmean(ratios) if ratios else math.nan


def _motion(found: Found) -> str:
    each = [motion([one for one in found if one["concept"] == name]) for name in _names(found)]
    return mean_range(each, 2)


def _forgotten(title: str, name: str) -> Line:
    def tuned_share(found: Found) -> float:
        pair = _pooled(found, name)
        return pair["tuned"] / pair["n"] if pair["n"] else math.nan

    return Line(
        title,
        base=lambda found: percent(_pooled(found, name), "base"),
        tuned=lambda found: percent(_pooled(found, name)),
        badness=tuned_share,
        floor=lambda found: percent(_pooled(found, name), "floor"),
        excess=lambda found: excess(_pooled(found, name)),
    )


def _kept(name: str) -> Line:
    def lost(found: Found) -> float:
        pair = _pooled(found, name)
        return -pair["tuned"] / pair["base"] if pair["base"] else math.nan

    return Line(
        f"{name}, relative to the base",
        base=lambda found: percent(_pooled(found, name), "base"),
        tuned=lambda found: relative_percent(_pooled(found, name)),
        badness=lost,
    )


def _size(title: str, name: str, digits: int) -> Line:
    return Line(
        title,
        base=lambda _: NOTHING,
        tuned=lambda found: mean_range((one[name] for one in found), digits),
        badness=lambda found: statistics.fmean(one[name] for one in found),
    )


def _pooled(found: Found, name: str) -> dict[str, int]:
    return pooled(one[name] for one in found if name in one)


def _names(found: Iterable[Record]) -> list[str]:
    return list(dict.fromkeys(one["concept"] for one in found))
