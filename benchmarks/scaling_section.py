"""The part of the performance page on how cost grows: words, tables, plots.

Knows the records of its commands.
"""

from __future__ import annotations

from collections.abc import Sequence

from markdown_cells import FOLDER, MIB, TERA, Plots, Record, machine, seconds, table
from plots import Curve, Panel, growth

_SCALING = """\
## How cost grows

`python benchmarks/scaling.py`

The dashed line is what the served engine would take if its time grew with the FLOPs alone, from its
largest size down. Whatever lies above it is what a call costs besides: at small sizes the calls
themselves, at large ones attention, whose scores no longer fit into the caches.
"""


def scaling_part(record: Record, plots: Plots) -> str:
    """The part of the page; adds its plots to `plots`."""
    served = record["served"]
    parts = [_SCALING, f"{machine(record)} {record['turns']} turns, served engine: {served}.\n"]
    words = {
        "steps": ("steps", "A clip of the embedded base by number of steps."),
        "frames": ("frames", "A guided step of the embedded base by number of frames."),
        "batch": ("rows in a batch", "A step of the embedded base by rows (two make one clip)."),
        "resolution": ("edge in latents", "A guided step of the middle size by resolution."),
    }
    for name, axis in record["axes"].items():
        xlabel, sentence = words[name]
        file = f"scaling-{name}.svg"
        plots[file] = _growth(axis, served, xlabel)
        parts.append(f"{sentence}\n\n{_axis_table(axis, xlabel)}\n![{name}]({FOLDER}/{file})\n")
    if record["policies"]:
        plots["scaling-policies.svg"] = _policies_plot(record["policies"])
        parts.append(_policies(record["policies"]))
    return "\n".join(parts)


def _growth(axis: Record, served: str, xlabel: str) -> bytes:
    by_engine: dict[str, list[Record]] = {}
    for point in axis["points"]:
        by_engine.setdefault(point["engine"], []).append(point)
    curves = [_curve(engine, points) for engine, points in by_engine.items()]
    shares = [
        Curve(c.label, c.sizes, values, values, values)
        for c, points in zip(curves, by_engine.values(), strict=True)
        if (values := [point["share_of_peak"] for point in points])
    ]
    own = by_engine[served]
    per_flop = own[-1]["seconds"]["median"] / own[-1]["flops"]
    line = [per_flop * point["flops"] for point in own]
    sizes = [point["value"] for point in own]
    expected = Curve("as the FLOPs alone", sizes, line, line, line)
    panels = (Panel(curves, "seconds", expected=expected), Panel(shares, "share of peak", True))
    return growth(panels, xlabel)


def _curve(engine: str, points: Sequence[Record]) -> Curve:
    spread = [point["seconds"] for point in points]
    return Curve(
        label=engine,
        sizes=[point["value"] for point in points],
        values=[each["median"] for each in spread],
        least=[each["least"] for each in spread],
        most=[each["most"] for each in spread],
    )


def _axis_table(axis: Record, xlabel: str) -> str:
    engines = list(dict.fromkeys(point["engine"] for point in axis["points"]))
    points = {(point["engine"], point["value"]): point for point in axis["points"]}
    values = list(dict.fromkeys(point["value"] for point in axis["points"]))
    heads = [xlabel, "TFLOP"]
    for engine in engines:
        heads += [f"{engine}, s", "of peak"]
    rows = []
    for value in values:
        row = [str(value), f"{points[engines[0], value]['flops'] / TERA:.3g}"]
        for engine in engines:
            point = points[engine, value]
            row += [seconds(point["seconds"]), f"{point['share_of_peak']:.0%}"]
        rows.append(row)
    return table(heads, rows)


def _policies(points: Sequence[Record]) -> str:
    first, last = points[0], points[-1]
    rows = [
        [str(p["policies"]), f"{p['ready_s']:.1f}", f"{p['memory_bytes'] / MIB:.0f}"]
        for p in points
    ]
    more = last["policies"] - first["policies"]
    slope = ""
    if more:
        memory = (last["memory_bytes"] - first["memory_bytes"]) / more / MIB
        ready_s = (last["ready_s"] - first["ready_s"]) / more
        slope = (
            f"\nEach policy more: {memory:.0f} MiB and {ready_s:.2f} s at start. Every model of "
            "this Triton's Python backends is a process of its own, and that is most of it.\n"
        )
    counts = table(("policies", "ready after s", "memory, MiB"), rows)
    return (
        "A server by number of policies, each with a text encoder of its own; memory is of all its "
        f"processes after a clip of each policy, shared pages counted once.\n\n{counts}{slope}\n"
        f"![policies]({FOLDER}/scaling-policies.svg)\n"
    )


def _policies_plot(points: Sequence[Record]) -> bytes:
    counts = [point["policies"] for point in points]
    memory = [point["memory_bytes"] / MIB for point in points]
    ready = [point["ready_s"] for point in points]
    panels = (
        Panel((Curve("memory", counts, memory, memory, memory),), "memory, MiB"),
        Panel((Curve("ready", counts, ready, ready, ready),), "seconds until ready"),
    )
    return growth(panels, "policies")
