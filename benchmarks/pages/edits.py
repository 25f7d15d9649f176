"""What `edits.md.jinja` needs beside its records: what every edit was tried on, added up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.pages.figures import pooled


def context(records: Mapping[str, Any]) -> dict[str, Any]:
    """The comparisons by what was looked at."""
    return {"comparisons": {title: compared(record) for title, record in records.items()}}


def compared(record: Mapping[str, Any]) -> dict[str, Any]:
    """The concepts that every edit was tried on, budgets, and by edit its seconds and counts."""
    ways: Mapping[str, Mapping[str, Any]] = record["ways"]
    first, *rest = ways.values()
    concepts = [name for name in first if all(name in found for found in rest)]
    return {
        "concepts": concepts,
        "attacks": record["attacks"],
        "ways": {
            way: {
                "seconds": [found[name]["seconds"] for name in concepts],
                "counts": {
                    title: pooled(found[name][title] for name in concepts)
                    for title in found[concepts[0]]
                    if title != "seconds"
                },
            }
            for way, found in ways.items()
            if concepts
        },
    }
