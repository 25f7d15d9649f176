"""Plots of a report as SVG text that lies inline in a page.

matplotlib draws without pyplot, so that nothing global changes. Text stays text: it takes the
page's font, and a reader can select it. Ids are made unique per plot, for several share one
document.
"""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from unsee.evaluation.report.schema import Rate

INK = "#1f2328"
TUNED = "#0b4f8a"
BASE = "#6a6f76"
FLOOR = "#b4690e"
RULE = "#dcdfe3"

WIDTH_IN = 5.0
ROW_IN = 0.42
BARS_IN = 0.95
LABEL_CHARACTERS = 24
"""Of a line beside a row; a label has two lines at most, or it would leave the row no room."""
FRAME_IN = 0.75
"""Height of axis, ticks and margins around the rows."""

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "unsee",
    "text.parse_math": False,  # a name may hold dollar signs
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
    """One line of a plot; rows of equal `group` stand together under its name."""

    label: str
    tuned: Rate
    base: Rate
    floor: Rate | None = None
    group: str = ""


@dataclass(frozen=True)
class CurvePoint:
    """What an attack brings back with `times` its usual budget."""

    times: int
    tuned: Rate
    base: Rate
    floor: Rate


def bar_plot(rows: Sequence[PlotRow], name: str) -> str:
    """Per row three bars with their shares and 95 % intervals: base, this encoder, floor.

    Args:
        name: letters and hyphens; makes the SVG's ids unique on a page.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH_IN, FRAME_IN + BARS_IN * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        for place, row in enumerate(rows):
            _bar(axes, place - 0.27, row.base, BASE, "unmodified")
            _bar(axes, place, row.tuned, TUNED, "this encoder")
            if row.floor is not None:
                _bar(axes, place + 0.27, row.floor, FLOOR, "floor")
        _percent_axis(axes)
        axes.set_xlim(0, 1.3)
        axes.set_yticks(range(len(rows)), [_fitted(row.label) for row in rows])
        axes.set_ylim(len(rows) - 0.45, -0.55)
        return _svg(figure, name)


def budget_plot(points: Sequence[CurvePoint], name: str) -> str:
    """The share that an attack brings back over its budget, with 95 % intervals."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH_IN, 2.5), layout="constrained")
        axes = figure.add_subplot()
        times = [point.times for point in points]
        for side, colour, fill in (
            ("base", BASE, "white"),
            ("tuned", TUNED, TUNED),
            ("floor", FLOOR, "white"),
        ):
            rates: list[Rate] = [getattr(point, side) for point in points]
            axes.fill_between(
                times,
                [rate.low for rate in rates],
                [rate.high for rate in rates],
                color=colour,
                alpha=0.12,
                linewidth=0,
            )
            axes.plot(
                times,
                [rate.share for rate in rates],
                color=colour,
                marker="o",
                markersize=4.5,
                markerfacecolor=fill,
            )
        axes.set_xscale("log", base=2)
        axes.set_xticks(times, [f"{each}×" for each in times])
        axes.set_xlabel("budget of the attack")
        _upright_percent_axis(axes)
        return _svg(figure, name)


def interval_plot(rows: Sequence[PlotRow], name: str) -> str:
    """Per row this encoder's share (filled), the base's (hollow) and the floor's (a diamond), each
    with its 95 % interval.

    Args:
        name: letters and hyphens; makes the SVG's ids unique on a page.
    """
    with matplotlib.rc_context(_STYLE):
        places, ticks, headings = _places(rows)
        height = FRAME_IN + ROW_IN * (len(rows) + len(headings))
        figure = Figure(figsize=(WIDTH_IN, height), layout="constrained")
        axes = figure.add_subplot()
        for place, row in zip(places, rows, strict=True):
            apart = 0.15 if row.floor is None else 0.25
            _interval(axes, place + apart, row.base, BASE, "white")
            if row.floor is None:
                _interval(axes, place - apart, row.tuned, TUNED, TUNED)
            else:
                _interval(axes, place, row.tuned, TUNED, TUNED)
                _interval(axes, place - apart, row.floor, FLOOR, "white", marker="D")
        _percent_axis(axes)
        axes.set_yticks([*places, *headings.values()], [*map(_fitted, (*ticks, *headings))])
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
        _upright_percent_axis(axes)
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


def _fitted(label: str) -> str:
    """The label in its two lines; letters of scripts that are written wide count twice."""
    wide = any("\u0900" <= letter < "\u1e00" or letter >= "\u2e80" for letter in label)
    width = LABEL_CHARACTERS // 2 if wide else LABEL_CHARACTERS
    return "\n".join(textwrap.wrap(label, width, max_lines=2, placeholder=" …"))


def _bar(axes: Axes, height: float, rate: Rate, colour: str, label: str) -> None:
    """A bar with its interval, and at its end what it is and how long."""
    if not rate.n:
        return
    axes.barh(height, rate.share, 0.22, color=colour)
    axes.plot([rate.low, rate.high], [height, height], color=INK, linewidth=1.1)
    text = f"{100 * rate.share:.0f} %  {label}"
    end = max(rate.high, rate.share) + 0.015
    axes.text(end, height, text, va="center", fontsize=9.5, color=INK)


def _interval(
    axes: Axes, height: float, rate: Rate, colour: str, fill: str, marker: str = "o"
) -> None:
    axes.plot([rate.low, rate.high], [height, height], color=colour, linewidth=1.6)
    if rate.n:
        axes.plot(
            [rate.share],
            [height],
            marker=marker,
            markersize=6 if marker == "o" else 5,
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


def _upright_percent_axis(axes: Axes) -> None:
    axes.set_ylim(-0.05, 1.05)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(axis="y", color=RULE, linewidth=0.8)
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
    with warnings.catch_warnings():  # letters that only the reader's fonts have
        warnings.filterwarnings("ignore", "Glyph ")
        FigureCanvasSVG(figure).print_svg(text, metadata=nothing)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace('xlink:href="#', f'xlink:href="#{name}-').replace("url(#", f"url(#{name}-")
    return re.sub(
        r'(<svg[^>]*?) width="[^"]*"| height="[^"]*"(?=[^>]*viewBox)', r"\1", svg, count=2
    )
