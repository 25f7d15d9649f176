"""Plots of a report as SVG text that lies inline in a page.

matplotlib draws without pyplot, so that nothing global changes. Text stays text: it takes the
page's font, and a reader can select it. Ids are made unique per plot, for several share one
document.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from unsee.evaluation.report.schema import Rate, RatePair

INK = "#1f2328"
TUNED = "#0b4f8a"
BASE = "#6a6f76"
RULE = "#dcdfe3"

WIDTH_IN = 5.0
ROW_IN = 0.36
FRAME_IN = 0.75
"""Height of axis, ticks and margins around the rows."""

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "unsee",
    "font.family": "sans-serif",
    "font.size": 11.0,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


@dataclass(frozen=True)
class PlotRow:
    """One line of an interval plot; rows of equal `group` stand together under its name."""

    label: str
    rates: RatePair
    group: str = ""


def interval_plot(rows: Sequence[PlotRow], name: str) -> str:
    """Per row the tuned share (filled) and the base's (hollow) with their 95 % intervals.

    Args:
        name: letters and hyphens; makes the SVG's ids unique on a page.
    """
    with matplotlib.rc_context(_STYLE):
        places, ticks, headings = _places(rows)
        height = FRAME_IN + ROW_IN * (len(rows) + len(headings))
        figure = Figure(figsize=(WIDTH_IN, height), layout="constrained")
        axes = figure.add_subplot()
        for place, row in zip(places, rows, strict=True):
            _interval(axes, place + 0.15, row.rates.base, BASE, "white")
            _interval(axes, place - 0.15, row.rates.tuned, TUNED, TUNED)
        _percent_axis(axes)
        axes.set_yticks([*places, *headings.values()], [*ticks, *headings])
        for label in axes.get_yticklabels()[len(places) :]:
            label.set_fontweight("bold")
        axes.set_ylim(min(places, default=0) - 0.6, max([*places, *headings.values()]) + 0.6)
        return _svg(figure, name)


def curve_plot(tuned: Sequence[float], base: Sequence[float], name: str) -> str:
    """Per frame the share of clips in which that frame shows the concept."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH_IN, 2.3), layout="constrained")
        axes = figure.add_subplot()
        frames = range(1, len(tuned) + 1)
        axes.plot(frames, base, color=BASE, marker="o", markersize=4.5, markerfacecolor="white")
        axes.plot(frames, tuned, color=TUNED, marker="o", markersize=4.5)
        axes.set_xlabel("frame of the clip")
        axes.set_xticks([frame for frame in frames if len(tuned) <= 16 or frame % 4 == 1])
        axes.set_ylim(-0.05, 1.05)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.grid(axis="y", color=RULE, linewidth=0.8)
        _quiet(axes)
        return _svg(figure, name)


def _places(rows: Sequence[PlotRow]) -> tuple[list[float], list[str], dict[str, float]]:
    """Heights of the rows from the top down, their labels, and the heights of the groups' names."""
    places: list[float] = []
    headings: dict[str, float] = {}
    height = 0.0
    for row in rows:
        if row.group and row.group not in headings:
            headings[row.group] = height
            height -= 1
        places.append(height)
        height -= 1
    return places, [row.label for row in rows], headings


def _interval(axes: Axes, height: float, rate: Rate, colour: str, fill: str) -> None:
    axes.plot([rate.low, rate.high], [height, height], color=colour, linewidth=1.6)
    if rate.n:
        axes.plot(
            [rate.share],
            [height],
            marker="o",
            markersize=6,
            color=colour,
            markerfacecolor=fill,
            markeredgewidth=1.4,
        )


def _percent_axis(axes: Axes) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(axis="x", color=RULE, linewidth=0.8)
    _quiet(axes)


def _quiet(axes: Axes) -> None:
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _svg(figure: Figure, name: str) -> str:
    """The figure's `<svg>` element alone: no prologue, no metadata, ids that begin with `name`."""
    text = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    FigureCanvasSVG(figure).print_svg(text, metadata=nothing)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace('xlink:href="#', f'xlink:href="#{name}-').replace("url(#", f"url(#{name}-")
    return re.sub(
        r'(<svg[^>]*?) width="[^"]*"| height="[^"]*"(?=[^>]*viewBox)', r"\1", svg, count=2
    )
