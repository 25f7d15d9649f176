"""What the client costs: its start, its size on disk, and its part of a clip.

The clips come from a server that makes grey frames at once, so that transport is all there is. The
ways alternate clip by clip, and a ratio is taken pair by pair.

    python -m benchmarks.serving.client --write
"""

from __future__ import annotations

import queue
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import click
import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput

from benchmarks.measuring.record import finish, say, write_option
from benchmarks.measuring.service import grey_triton
from benchmarks.measuring.timing import Spread, in_turn, times_faster
from benchmarks.serving.footprint import closure, installed_bytes
from unsee.client.client import Client
from unsee.client.messages import MODEL
from unsee.core.request_schema import INPUTS
from unsee.playground.training.program import exit_code_of

IMPORTS = ("import grpc", "from unsee.client import Client")
NUM_FRAMES, STEPS = 16, 25
SIDES = (64, 512)
NUMPY_TYPES = {"BYTES": np.object_, "INT64": np.int64, "INT32": np.int32, "FP32": np.float32}
NUMPY_TYPES |= {"BOOL": np.bool_}
MEGA = 1e6

Way = Callable[[], Any]


def cpu_seconds(program: str) -> float:
    """Of a Python process that runs `program`: a busy machine changes them less than the clock."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", program], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def imports(processes: int) -> dict[str, dict[str, float]]:
    """CPU seconds of a process for each import."""
    seconds: dict[str, list[float]] = {program: [] for program in IMPORTS}
    for _ in range(processes):
        for program in IMPORTS:
            seconds[program].append(cpu_seconds(program))
    return {program: asdict(Spread.of(values)) for program, values in seconds.items()}


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


def overhead(url: str, turns: int) -> list[dict[str, Any]]:
    """Milliseconds of raw tritonclient and of `Client` by size, and ratios turn by turn.

    Raises:
        click.ClickException: they do not give the same frames.
    """
    rows = []
    with InferenceServerClient(url) as raw, Client(url) as client:
        for side in SIDES:
            ways = {
                "raw": raw_way(raw, request_of(side)),
                "client": our_way(client, request_of(side)),
            }
            if not np.array_equal(ways["raw"](), ways["client"]()):
                raise click.ClickException("tritonclient and Client do not give the same frames")
            say(f"clips of {side} pixels: {turns} turns")
            seconds = in_turn(ways, turns)
            ratio = times_faster(seconds["client"], seconds["raw"])
            medians = {f"{way}_ms": 1000 * Spread.of(s).median for way, s in seconds.items()}
            rows.append({"side": side, **medians, "ratio": asdict(ratio)})
    return rows


@click.command()
@click.option("--processes", type=click.IntRange(min=1), default=11, show_default=True)
@click.option("--turns", type=click.IntRange(min=2), default=40, show_default=True)
@write_option
def client_cost(processes: int, turns: int, write: bool) -> None:
    """Measure what the client costs and print it as JSON."""
    sizes = {name: installed_bytes(name) / MEGA for name in closure("")}
    largest = sorted(sizes, key=lambda name: -sizes[name])[:6]
    with grey_triton() as url:
        clips = overhead(url, turns)
    record = {
        "processes": processes,
        "imports": imports(processes),
        "distributions": len(sizes),
        "megabytes": sum(sizes.values()),
        "largest": {name: sizes[name] for name in largest},
        "server": "a gRPC server in Python that makes grey frames at once",
        "num_frames": NUM_FRAMES,
        "steps": STEPS,
        "turns": turns,
        "clips": clips,
    }
    finish("client", record, write=write)


if __name__ == "__main__":
    sys.exit(exit_code_of(client_cost))
