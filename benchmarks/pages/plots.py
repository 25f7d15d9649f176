"""The pages' plots as SVG files, drawn from the records; readable on white and on black."""

from __future__ import annotations

import io
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from benchmarks.pages import figures
from benchmarks.pages.concepts import context as concepts_context
from benchmarks.pages.figures import pooled

Record = Mapping[str, Any]

INK, QUIET, STRONG, OTHER = "#7d8590", "#9aa4b0", "#2f81f7", "#d08a2e"
FORGOTTEN, KEPT = "#d1493f", "#2a9d5c"
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
_EAGER = "eager-float32"
_FAINTEST = 1e-4


def engines(records: Mapping[str, Any], folder: str = "performance") -> dict[str, bytes]:
    """Speeds of the engines, of a step and of a clip, at every size that has a record."""
    files = {}
    for record in figures.engines(records)["engines"]:
        for what, title in (("step", "step"), ("clip", "whole clip")):
            drawn = _speeds(record, f"{what}_times_eager")
            label = f"{title}: times as fast as PyTorch eager float32"
            files[f"{folder}/engines-{record['size']}-{what}.svg"] = bars(drawn, label, 1.0)
    return files


def performance(records: Mapping[str, Any]) -> dict[str, bytes]:
    """Speeds of the engines, and how cost grows."""
    files = engines(records)
    scaling = records["scaling"]
    labels = {"steps": "steps", "frames": "frames", "batch": "rows in a batch"}
    labels |= {"resolution": "edge in latents"}
    for axis, xlabel in labels.items():
        panels = _growth_panels(scaling["axes"][axis]["points"], scaling["served"])
        files[f"performance/scaling-{axis}.svg"] = growth(panels, xlabel)
    return files


def without_matrix_units(records: Mapping[str, Any]) -> dict[str, bytes]:
    """The same speeds on a CPU without such units."""
    return engines(records, "performance/without_matrix_units")


def load(records: Mapping[str, Any]) -> dict[str, bytes]:
    """Clips per second, and p50 of the latency with p95 as the whisker, over the clients."""
    rates, latencies = [], []
    levels = records["load"]["levels"]
    for way in dict.fromkeys(level["way"] for level in levels):
        found = [level for level in levels if level["way"] == way]
        clients = [level["clients"] for level in found]
        speeds = [level["clips_per_s"] for level in found]
        middles = [statistics.median(turns) for turns in speeds]
        rates.append(Curve(way, clients, middles, list(map(min, speeds)), list(map(max, speeds))))
        p50, p95 = ([level["latency_s"][name] for level in found] for name in ("p50", "p95"))
        latencies.append(Curve(way, clients, p50, p50, p95))
    panels = [Panel(rates, "clips per second"), Panel(latencies, "seconds: p50, up to p95")]
    return {"load.svg": growth(panels, "clients")}


def reliability(records: Mapping[str, Any]) -> dict[str, bytes]:
    """Resident memory over cycles of publishing and retiring."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for name, points in records["swap"]["memory_mib"].items():
            axes.plot(*zip(*points, strict=True), label=name)
        axes.set(xlabel="publish and retire cycles", ylabel="resident memory (MiB)")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, loc="center right")
        _bare(axes)

    return {"reliability/swap_memory.svg": _svg(draw, 3.2)}


def results(records: Mapping[str, Any]) -> dict[str, bytes]:
    """What is still seen and kept by concept."""
    by_concept = concepts_context(records)["by_concept"]
    marks = (
        ("concept, clips", FORGOTTEN, "o", ("clips", "clips, rewritten")),
        ("siblings, clips", KEPT, "s", ("siblings, clips",)),
        ("others, clips", INK, "|", ("others, clips",)),
    )

    def draw_concepts(figure: Figure) -> None:
        axes = figure.add_subplot()
        for label, colour, marker, names in marks:
            counts = [
                pooled(one[name] for one in found for name in names if name in one)
                for found in by_concept.values()
            ]
            points = [(100 * c["tuned"] / c["n"], i) for i, c in enumerate(counts) if c["n"]]
            axes.plot(*zip(*points, strict=True), marker, label=label, color=colour, ms=6)
        axes.set_yticks(range(len(by_concept)), list(by_concept))
        axes.invert_yaxis()
        axes.set(xlabel="recognised after unlearning, %", xlim=(-3, 103))
        axes.grid(axis="y", alpha=0.25)
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
        _bare(axes)

    return {"results_concepts.svg": _svg(draw_concepts, 0.28 * len(by_concept) + 1.2)}


def composition(records: Mapping[str, Any]) -> dict[str, bytes]:
    """The matrix of interference on a logarithmic scale, with lines between categories."""
    matrix = records["composition"]["interference"]
    names, categories = matrix["concepts"], matrix["categories"]
    shares = [[min(max(value, _FAINTEST), 1) for value in row] for row in matrix["shares"]]
    borders = [i for i in range(1, len(names)) if categories[i] != categories[i - 1]]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        mesh = axes.pcolormesh(shares, cmap="magma_r", norm=LogNorm(_FAINTEST, 1, clip=True))
        centres = [i + 0.5 for i in range(len(names))]
        axes.set_xticks(centres, names, rotation=90)
        axes.set_yticks(centres, names)
        for border in borders:
            axes.axhline(border, color=INK, linewidth=0.8)
            axes.axvline(border, color=INK, linewidth=0.8)
        axes.invert_yaxis()
        axes.set(xlabel="states that name", ylabel="edit of", aspect="equal")
        figure.colorbar(mesh, ax=axes, shrink=0.6, label="moved, in units of what forgetting needs")

    return {"interference.svg": _svg(draw, 8.0, width_in=9.0)}


def bars(rows: Sequence[tuple[str, Record, bool]], xlabel: str, reference: float) -> bytes:
    """A bar per (label, spread, is strong) up to its median, a whisker over its range."""
    medians, least, most = ([row[1][name] for row in rows] for name in ("median", "least", "most"))

    def draw(figure: Figure) -> None:
        axes, places = figure.add_subplot(), range(len(rows))
        colours = [STRONG if strong else QUIET for _, _, strong in rows]
        axes.barh(places, medians, height=0.62, color=colours, alpha=0.7)
        axes.errorbar(
            medians, places, xerr=_whiskers(medians, least, most), fmt="none", ecolor=INK,
            capsize=3, lw=1.2,
        )  # fmt: skip
        for place, value, end in zip(places, medians, most, strict=True):
            axes.annotate(
                f"{value:.2f}", (end, place), xytext=(5, 0), textcoords="offset points",
                va="center", annotation_clip=False,
            )  # fmt: skip
        axes.set_yticks(places, [label for label, _, _ in rows])
        axes.invert_yaxis()
        axes.set(xlabel=xlabel, xlim=(0, 1.2 * max(most)))
        axes.axvline(reference, color=INK, lw=0.8, ls=":")
        _bare(axes)

    return _svg(draw, _FRAME_IN + _ROW_IN * len(rows))


@dataclass(frozen=True)
class Curve:
    """Values over a size, with their ranges; without ranges they are exact."""

    label: str
    sizes: Sequence[float]
    values: Sequence[float]
    least: Sequence[float] | None = None
    most: Sequence[float] | None = None


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

    def draw(figure: Figure) -> None:
        for place, panel in enumerate(panels, 1):
            _panel(figure.add_subplot(1, len(panels), place), panel, xlabel)

    return _svg(draw, 2.9)


def _panel(axes: Axes, panel: Panel, xlabel: str) -> None:
    for curve, colour in zip(panel.curves, (STRONG, OTHER, QUIET), strict=False):
        spread = _whiskers(curve.values, curve.least or curve.values, curve.most or curve.values)
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


def _speeds(record: Record, name: str) -> list[tuple[str, Record, bool]]:
    return [
        (row["label"], row[name], row["engine"] == record["served"])
        for row in record["rows"]
        if row[name] is not None and row["engine"] != _EAGER
    ]


def _growth_panels(points: Sequence[Record], served: str) -> list[Panel]:
    """Seconds of every engine beside what FLOPs alone would give, and shares of the peak."""
    by_engine: dict[str, list[Record]] = {}
    for point in points:
        by_engine.setdefault(point["engine"], []).append(point)
    curves, shares = [], []
    for engine, own in by_engine.items():
        sizes, taken = [point["value"] for point in own], [point["seconds"] for point in own]
        values, least, most = ([s[name] for s in taken] for name in ("median", "least", "most"))
        curves.append(Curve(engine, sizes, values, least, most))
        shares.append(Curve(engine, sizes, [point["share_of_peak"] for point in own]))
    own = by_engine[served]
    per_flop = own[-1]["seconds"]["median"] / own[-1]["flops"]
    line = [per_flop * point["flops"] for point in own]
    expected = Curve("as the FLOPs alone", [point["value"] for point in own], line)
    return [Panel(curves, "seconds", expected=expected), Panel(shares, "share of peak", True)]


def _whiskers(
    values: Iterable[float], least: Iterable[float], most: Iterable[float]
) -> list[list[float]]:
    rows = list(zip(values, least, most, strict=True))
    return [[value - low for value, low, _ in rows], [high - value for value, _, high in rows]]


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.patch.set_visible(False)


def _svg(draw: Callable[[Figure], None], height_in: float, width_in: float = _WIDTH_IN) -> bytes:
    """What `draw` puts on a figure, as a file that does not depend on when and where it was drawn.

    Coordinates are rounded to 0.001 points: processors differ in the sixth digit.
    """
    buffer = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        draw(figure)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return re.sub(rb"\d+\.\d{4,}", lambda found: b"%.3f" % float(found[0]), buffer.getvalue())
