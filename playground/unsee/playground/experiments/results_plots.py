"""The plots beside the results: learning rates, concepts, interference.

Knows numbers and colours; does not know how anything was measured.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.figure import Figure

from unsee.evaluation.report.schema import Rate
from unsee.playground.experiments.rate_search import RateTrial

FORGOTTEN, KEPT, INK = "#b3261e", "#16794a", "#1c1e22"


@dataclass(frozen=True)
class Marks:
    """One share per concept, drawn with one marker."""

    label: str
    colour: str
    marker: str
    rates: Sequence[Rate]


def svg(figure: Figure) -> bytes:
    """The figure as a file that does not depend on when it was drawn."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "unsee", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def rates_plot(trials: Sequence[RateTrial]) -> bytes:
    """Forgetting and keeping over the learning rate."""
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.add_subplot()
    rates = [trial.learning_rate for trial in trials]
    curves: tuple[tuple[Callable[[RateTrial], float], str, str], ...] = (
        (lambda trial: trial.still_seen, "still seen", FORGOTTEN),
        (lambda trial: trial.siblings_kept, "siblings kept", KEPT),
        (lambda trial: trial.others_kept, "others kept", INK),
    )
    for value, label, colour in curves:
        axes.plot(rates, [100 * value(t) for t in trials], "o-", label=label, color=colour)
    axes.set(xscale="log", xlabel="learning rate", ylabel="% of images", ylim=(-3, 103))
    axes.legend(frameon=False)
    return svg(figure)


def concepts_plot(names: Sequence[str], marks: Sequence[Marks]) -> bytes:
    """One line per concept; what was not asked has no mark."""
    figure = Figure(figsize=(8, 0.28 * len(names) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    for one in marks:
        shown = [(i, rate) for i, rate in enumerate(one.rates) if rate.n]
        axes.plot(
            [100 * rate.share for _, rate in shown],
            [i for i, _ in shown],
            one.marker,
            label=one.label,
            color=one.colour,
            linestyle="none",
            markersize=6,
        )
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel="recognised after unlearning, %", xlim=(-3, 103))
    axes.grid(axis="y", alpha=0.25)
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return svg(figure)
