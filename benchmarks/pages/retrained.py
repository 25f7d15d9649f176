"""What `retrained.md.jinja` needs beside its record: all concepts together, by question."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.pages.figures import pooled


def context(records: Mapping[str, Any]) -> dict[str, Any]:
    """The counts of all concepts together, by what was asked or which attack was made, and of all
    that a caller can send."""
    attacks = records["retrained"]["attacks"]
    concepts = list(records["retrained"]["concepts"].values())
    titles = dict.fromkeys(title for found in concepts for title in found)
    together = {
        title: pooled(found[title] for found in concepts if title in found) for title in titles
    }
    sent = [
        pair
        for title, pair in together.items()
        if title not in attacks or attacks[title]["reach"] == "caller"
    ]
    return {"together": together, "sent": pooled(sent)}
