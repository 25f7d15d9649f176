"""What the client costs: its start, its size on disk, and its part of
a clip. Writes docs/guide/client.md's figures with --write.

The clips come from a real tritonserver whose model makes grey frames at once, so that transport is
all there is. The ways alternate clip by clip, and a ratio is taken pair by pair.

    python benchmarks/client.py --write
"""

from __future__ import annotations

import queue
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import click
import numpy as np
from blank_server import blank_server
from markdown_cells import table
from packaging.requirements import Requirement
from serving_overhead import in_turn
from spread import Spread, times_faster
from tritonclient.grpc import InferenceServerClient, InferInput

from unsee.client.client import Client
from unsee.client.messages import MODEL
from unsee.core.files import write_file
from unsee.core.request_schema import INPUTS

PAGE = Path(__file__).parents[1] / "docs" / "guide" / "client.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
IMPORTS = {"import grpc": "import grpc", "Client": "from unsee.client import Client"}
NUM_FRAMES, STEPS = 16, 25
SIDES = (64, 512)
NUMPY_TYPES = {"BYTES": np.object_, "INT64": np.int64, "INT32": np.int32, "FP32": np.float32}
MEGA = 1e6

Way = Callable[[], Any]


def cpu_seconds(program: str) -> float:
    """Of a Python process that runs `program`: a busy machine changes them less than the clock."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", program], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def import_rows(processes: int) -> list[list[str]]:
    """CPU seconds of a process for each import; median, with the range."""
    seconds: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for _ in range(processes):
        for name, program in IMPORTS.items():
            seconds[name].append(cpu_seconds(program))
    spreads = {name: Spread.of(values) for name, values in seconds.items()}
    return [
        [f"`{IMPORTS[name]}`", f"{s.median:.2f} ({s.least:.2f}–{s.most:.2f})"]
        for name, s in spreads.items()
    ]


def closure(name: str) -> dict[str, float]:
    """Megabytes on disk of a distribution and of all that it needs here, without extras."""
    found: dict[str, float] = {}
    waiting = [Requirement(name)]
    seen: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        key = f"{requirement.name.lower().replace('_', '-')}{sorted(requirement.extras)}"
        if key in seen:
            continue
        seen.add(key)
        try:
            dist = distribution(requirement.name)
        except PackageNotFoundError:
            continue
        files = (Path(str(dist.locate_file(f))) for f in dist.files or ())
        found[dist.name.lower()] = sum(f.stat().st_size for f in files if f.is_file()) / MEGA
        extras = requirement.extras or {""}
        for line in dist.requires or ():
            needed = Requirement(line)
            if any(needed.marker is None or needed.marker.evaluate({"extra": e}) for e in extras):
                waiting.append(needed)
    return found


def raw_way(client: InferenceServerClient, options: Mapping[str, Any]) -> Way:
    """The same request with tritonclient itself: one stream a clip, the frames as an array."""
    inputs = []
    for name, value in options.items():
        kind = INPUTS[name].datatype
        tensor = InferInput(name, [1], kind)
        content = value.encode() if isinstance(value, str) else value
        tensor.set_data_from_numpy(np.array([content], NUMPY_TYPES[kind]))
        inputs.append(tensor)

    def clip() -> Any:
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        client.start_stream(lambda result, error: answers.put((result, error)))
        try:
            client.async_stream_infer(MODEL, inputs)
            while True:
                result, error = answers.get()
                if error is not None:
                    raise error
                if (frames := result.as_numpy("frames")) is not None:
                    return frames
        finally:
            client.stop_stream()

    return clip


def our_way(client: Client, options: dict[str, Any]) -> Way:
    return lambda: client.generate(**options).frames


def request_of(side: int) -> dict[str, Any]:
    size = {"num_frames": NUM_FRAMES, "height": side, "width": side}
    return {"prompt": "a cat", "num_inference_steps": STEPS, **size}


def overhead_rows(url: str, turns: int) -> list[list[str]]:
    """Milliseconds of raw tritonclient and of `Client`, and their ratio."""
    rows = []
    with InferenceServerClient(url) as raw, Client(url) as client:
        for side in SIDES:
            ways = {
                "raw": raw_way(raw, request_of(side)),
                "client": our_way(client, request_of(side)),
            }
            rows.append([_size(side), *_compared(ways, turns)])
    return rows


def _compared(ways: dict[str, Way], turns: int) -> list[str]:
    """Both medians, and the second's time over the first's, turn by turn."""
    (first, one), (second, other) = ways.items()
    if not np.array_equal(one(), other()):
        raise click.ClickException(f"{first} and {second} do not give the same frames")
    seconds = in_turn(ways, turns)
    ratio = times_faster(seconds[second], seconds[first])
    medians = [f"{1000 * Spread.of(seconds[name]).median:.1f}" for name in ways]
    quartiles = f"{ratio.low_quartile:.2f}–{ratio.high_quartile:.2f}"
    return [*medians, f"{ratio.median:.2f} ({quartiles})"]


def _size(side: int) -> str:
    megabytes = NUM_FRAMES * side * side * 3 / MEGA
    return f"{NUM_FRAMES}×{side}×{side} ({megabytes:.1f} MB)"


def report(processes: int, turns: int) -> str:
    """All the tables."""
    sizes = closure("unsee")
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:6]
    with blank_server() as url:
        overhead = overhead_rows(url, turns)
    parts = [
        f"CPU seconds of a process that starts and imports, median and range of {processes}:\n",
        table(["program", "seconds"], import_rows(processes)),
        f"On disk `pip install unsee` is {len(sizes)} distributions of "
        f"{sum(sizes.values()):.0f} MB; the largest:\n",
        table(["distribution", "MB"], [[name, f"{size:.1f}"] for name, size in largest]),
        f"Milliseconds per clip of {STEPS} events, medians of {turns} turns, and the ratio turn by "
        "turn with its quartiles; the model makes grey frames at once, so this is transport "
        "alone:\n",
        table(["clip", "tritonclient", "`Client`", "ratio"], overhead),
    ]
    return "\n".join(parts)


def written(page: str, figures: str) -> str:
    """`page` with `figures` between its markers."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise click.ClickException(f"the page has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{figures}{END}{after}"


@click.command()
@click.option("--processes", type=click.IntRange(min=1), default=11, show_default=True)
@click.option("--turns", type=click.IntRange(min=2), default=40, show_default=True)
@click.option("--write", is_flag=True, help="Write the figures into docs/guide/client.md.")
def client_cost(processes: int, turns: int, write: bool) -> None:
    """Measure the client and print the tables."""
    figures = report(processes, turns)
    click.echo(figures)
    if write:
        write_file(PAGE, written(PAGE.read_text(encoding="utf-8"), figures).encode())


if __name__ == "__main__":
    client_cost()
