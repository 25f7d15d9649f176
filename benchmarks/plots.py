"""The plots of the benchmarks as SVG files that can be read on white and on black.

Knows numbers and labels; does not know how anything was measured.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

INK, QUIET, STRONG, OTHER = "#7d8590", "#9aa4b0", "#2f81f7", "#d08a2e"
_STYLE = {
    "svg.hashsalt": "unsee",
    "svg.fonttype": "none",
    "font.size": 10.0,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.labelcolor": INK,
    "savefig.transparent": True,
}
_ROW_IN, _FRAME_IN, _WIDTH_IN = 0.34, 0.9, 7.2


@dataclass(frozen=True)
class Bar:
    """A value with its range; the note stands behind it."""

    label: str
    value: float
    least: float
    most: float
    note: str = ""
    strong: bool = False


def bars(rows: Sequence[Bar], xlabel: str, reference: float | None = None) -> bytes:
    """A horizontal bar per row with a whisker from its least to its most."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH_IN, _FRAME_IN + _ROW_IN * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        places = range(len(rows))
        values = [row.value for row in rows]
        spread = [
            [row.value - row.least for row in rows],
            [row.most - row.value for row in rows],
        ]
        colours = [STRONG if row.strong else QUIET for row in rows]
        axes.barh(places, values, height=0.62, color=colours, alpha=0.7)
        axes.errorbar(values, places, xerr=spread, fmt="none", ecolor=INK, capsize=3, lw=1.2)
        for place, row in zip(places, rows, strict=True):
            axes.annotate(
                row.note,
                (row.most, place),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                annotation_clip=False,
            )
        axes.set_yticks(places, [row.label for row in rows])
        axes.invert_yaxis()
        axes.set(xlabel=xlabel, xlim=(0, 1.2 * max(row.most for row in rows)))
        if reference is not None:
            axes.axvline(reference, color=INK, lw=0.8, ls=":")
        _bare(axes)
        return _svg(figure)


@dataclass(frozen=True)
class Curve:
    """Values over a size, with their ranges."""

    label: str
    sizes: Sequence[float]
    values: Sequence[float]
    least: Sequence[float]
    most: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """One diagram of several beside each other; `is_share` shows values as per cent.

    `expected` is what the values would be if something else alone decided, over the same sizes.
    """

    curves: Sequence[Curve]
    ylabel: str
    is_share: bool = False
    expected: Curve | None = None


def growth(panels: Sequence[Panel], xlabel: str) -> bytes:
    """Panels beside each other that share the size on the x axis."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH_IN, 2.9), layout="constrained")
        for place, panel in enumerate(panels, 1):
            _panel(figure.add_subplot(1, len(panels), place), panel, xlabel)
        return _svg(figure)


def _panel(axes: Axes, panel: Panel, xlabel: str) -> None:
    for curve, colour in zip(panel.curves, (STRONG, OTHER, QUIET), strict=False):
        spread = [
            [v - low for v, low in zip(curve.values, curve.least, strict=True)],
            [high - v for v, high in zip(curve.values, curve.most, strict=True)],
        ]
        axes.errorbar(
            curve.sizes, curve.values, yerr=spread, fmt="o-", color=colour, capsize=3, ms=5,
            label=curve.label,
        )  # fmt: skip
    if panel.expected is not None:
        line = panel.expected
        axes.plot(line.sizes, line.values, "--", color=INK, lw=1, label=line.label)
    axes.set(xlabel=xlabel, ylabel=panel.ylabel)
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    if panel.is_share:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    if len(panel.curves) > 1 or panel.expected is not None:
        axes.legend(frameon=False, fontsize=9)
    _bare(axes)


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.patch.set_visible(False)


def _svg(figure: Figure) -> bytes:
    """The figure as a file that does not depend on when it was drawn."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
