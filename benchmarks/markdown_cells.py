"""Figures of the records as text for a page in Markdown; knows no page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]
Plots = dict[str, bytes]
"""Files by name, filled by the sections of a page."""

FOLDER = "performance"
"""Where records and plots lie, beside the page."""

GIGA, TERA, MEGA, MIB = 1e9, 1e12, 1e6, 2**20


def machine(record: Record, with_threads: bool = True) -> str:
    machine = record["machine"]
    units = [name for name in ("BF16", "FP16", "INT8") if name in machine["capabilities"]]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    used = record["threads"] if with_threads else 0
    threads = f", {used} thread{'s' if used > 1 else ''}" if used else ""
    return (
        f"{machine['cpu']} ({machine['threads']} cores; {', '.join(units)}){threads}; {versions}."
    )


def seconds(spread: Record | None) -> str:
    """Median and quartiles."""
    if spread is None:
        return ""
    digits = 3 if spread["median"] < 1 else 2
    return f"{spread['median']:.{digits}f} ({quartiles(spread, digits)})"


def ratio(spread: Record | None) -> str:
    """Median and quartiles."""
    return "" if spread is None else f"{spread['median']:.2f} ({quartiles(spread, 2)})"


def quartiles(spread: Record, digits: int) -> str:
    """Both quartiles."""
    return f"{spread['low_quartile']:.{digits}f}–{spread['high_quartile']:.{digits}f}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of numbers behind one of words."""
    lines = [heads, ["---", *("---:" for _ in heads[1:])], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
