"""The page of the measurements under load: words around figures, and the plot. Measures nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markdown_cells import table
from plots import Curve, Panel, growth

from unsee.core.files import write_file

Record = Mapping[str, Any]
PLOT = "load.svg"
SEQUENCE = 1

INTRODUCTION = """\
# Under load

Written by `make load` (`python benchmarks/load.py`); do not edit.
"""
THROUGHPUT = """\
## Throughput and latency

The same clips, of all policies in turn, are shared by so many clients, each of which asks for its
next clip when it has the last. One client is the work in sequence, and "faster" is held to it.
"Rows" are those of one call of the video UNet: a guided clip alone has two, more come from other
clips that are in the same step's shape at that moment.
"""
TIME = """\
## Where the time of a clip goes

Mean seconds. Encoder, UNet and VAE are from the clip's record and contain the wait for the model;
for the UNet, how much of it was waiting in Triton's queue stands beside it. "Queue" lasts from the
client's call until the server begins the clip, "transport" is what is left of the client's time.
"""
FAIRNESS = """\
## Two tenants

Both have the same weight in a gateway with {running} places. One asks for clip after clip; the
other floods with {floods} clients.
"""
FULL = """\
## When it is full

With {running} places and {waiting} waiting, and more clients than that: how long a refusal takes,
and how long after a running clip was cancelled the waiting one begins. A cancelled clip gives its
place up after the step that is running, so this should not be longer than a step.
"""


def write_page(record: Record, page: Path) -> None:
    """Write the page, and beside it the record (`.json`) and the plot."""
    write_file(page.with_suffix(".json"), (json.dumps(record, indent=1) + "\n").encode())
    write_file(page.with_name(PLOT), plot(record))
    write_file(page, markdown(record).encode())


def markdown(record: Record) -> str:
    """The page's text."""
    machine, plan = record["machine"], record["plan"]
    measured = (
        f"{machine['cpu']}, {machine['cores']} cores, load average {machine['load_average']:.1f} "
        f"at the start; {plan['turns']} turn(s) of {plan['clips']} clips, policies "
        f"{', '.join(record['policies'])}."
    )
    parts = [
        INTRODUCTION,
        measured,
        "",
        THROUGHPUT,
        f"![clips per second and latency by clients]({PLOT})",
        "",
        throughput_table(record),
        TIME,
        time_table(record),
        FAIRNESS.format(**record["shared"], floods=record["floods"]),
        fairness_table(record),
        FULL.format(**record["scarce"]),
        full_table(record),
    ]
    return "\n".join(parts)


def throughput_table(record: Record) -> str:
    """A row per way and number of clients."""
    heads = ("way, clients", "clips/s (range)", "faster", "p50 s", "p95 s", "p99 s")
    heads += ("rows", "calls by rows")
    rows = []
    for level in record["levels"]:
        (sequence,) = (
            one
            for one in record["levels"]
            if (one["way"], one["clients"]) == (level["way"], SEQUENCE)
        )
        rate, latency = _median(level["clips_per_s"]), level["latency_s"]
        calls = level["unet_calls_by_rows"]
        rows.append(
            (
                f"{level['way']}, {level['clients']}",
                f"{rate:.2f} ({min(level['clips_per_s']):.2f}–{max(level['clips_per_s']):.2f})",
                f"{rate / _median(sequence['clips_per_s']):.2f}",
                *(f"{latency[name]:.2f}" for name in ("p50", "p95", "p99")),
                f"{level['unet_rows_per_call']:.1f}",
                ", ".join(f"{size}: {count}" for size, count in calls.items()),
            )
        )
    return table(heads, rows)


def time_table(record: Record) -> str:
    """Mean seconds of each part, a row per way and number of clients."""
    parts = ("queue", "text_encoder", "video_unet", "vae_decoder", "transport")
    heads = ("way, clients", "queue", "encoder", "UNet", "VAE", "transport", "UNet's calls waiting")
    rows = []
    for level in record["levels"]:
        seconds = level["seconds_per_clip"]
        share = level["unet_queued_s_per_clip"] / seconds["video_unet"]
        rows.append(
            (
                f"{level['way']}, {level['clients']}",
                *(f"{seconds[part]:.3f}" for part in parts),
                f"{100 * share:.0f} %",
            )
        )
    return table(heads, rows)


def fairness_table(record: Record) -> str:
    """The asking tenant alone and beside the flood, and the flood itself."""
    found = record["fairness"]
    ratio = found["beside_s"]["p95"] / found["alone_s"]["p95"]
    rows = [
        ("alone", *_three(found["alone_s"], 2), "1.00"),
        ("beside the flood", *_three(found["beside_s"], 2), f"{ratio:.2f}"),
        ("the flood's own", *_three(found["flood_s"], 2), ""),
    ]
    return table(("clips of", "p50 s", "p95 s", "p99 s", "p95 to alone"), rows)


def full_table(record: Record) -> str:
    """Refusals and cancelling, a row per way."""
    heads = ("way", "refusal p50 ms", "p99 ms", "place free after p50 s", "most s", "a step p50 s")
    rows = []
    for way, found in record["full"].items():
        refusal, cancelling = found["refusal_ms"], found["cancelling_s"]
        freed, step = cancelling["freed"], cancelling["step"]
        figures = (refusal["p50"], refusal["p99"])
        times = (freed["p50"], freed["most"], step["p50"])
        rows.append((way, *(f"{f:.1f}" for f in figures), *(f"{t:.3f}" for t in times)))
    return table(heads, rows)


def plot(record: Record) -> bytes:
    """Clips per second and p50 latency (whisker: p95) over the number of clients."""
    ways = list(dict.fromkeys(level["way"] for level in record["levels"]))
    rates, latencies = [], []
    for way in ways:
        levels = [level for level in record["levels"] if level["way"] == way]
        clients = [level["clients"] for level in levels]
        speeds = [level["clips_per_s"] for level in levels]
        least, most = [min(turns) for turns in speeds], [max(turns) for turns in speeds]
        rates.append(Curve(way, clients, [_median(turns) for turns in speeds], least, most))
        p50 = [level["latency_s"]["p50"] for level in levels]
        p95 = [level["latency_s"]["p95"] for level in levels]
        latencies.append(Curve(way, clients, p50, p50, p95))
    panels = [Panel(rates, "clips per second"), Panel(latencies, "seconds: p50, up to p95")]
    return growth(panels, "clients")


def _three(values: Mapping[str, float], digits: int) -> tuple[str, ...]:
    return tuple(f"{values[name]:.{digits}f}" for name in ("p50", "p95", "p99"))


def _median(values: list[float]) -> float:
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
