"""What came of unlearning, in words and as JSON. Prints nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence

from unsee.jobs.job import Outcome


def as_json(outcomes: Sequence[Outcome]) -> str:
    """One JSON document."""
    deltas = [
        {
            "delta": str(outcome.folder),
            "reused": outcome.reused,
            "card": outcome.delta.card.model_dump(mode="json"),
        }
        for outcome in outcomes
    ]
    return json.dumps({"deltas": deltas}, indent=2)


def in_words(outcome: Outcome) -> str:
    """One line for a person."""
    card = outcome.delta.card
    if outcome.reused:
        return f"{outcome.folder} already holds this delta of {card.concept.name}"
    values = sum(tensor.numel() for tensor in outcome.delta.tensors.values())
    return (
        f"{outcome.folder}: unlearned {card.concept.name} in {sum(card.seconds.values()):.1f} s "
        f"({_figures(outcome)}, "
        f"{values:,} values in {len(outcome.delta.tensors)} tensors): {card.stopped}"
    )


def _figures(outcome: Outcome) -> str:
    card = outcome.delta.card
    steps = f"{len(card.losses)} steps, " if len(card.losses) > 1 else ""
    if card.erased is None or card.kept is None:
        return f"{steps}denoising error {-card.losses[0]:.3f} to {-card.losses[-1]:.3f}"
    return steps + f"erased {card.erased:.0%}, kept {card.kept:.1%}".replace("%", " %")
