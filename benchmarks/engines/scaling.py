"""How the cost of a clip grows: with steps, frames, resolution and batch.

Steps, frames and batch grow on the embedded base, the resolution on the base of middle size. The
sizes take turns in random order, in the engine that the export chose and in PyTorch eager float32.

    python -m benchmarks.engines.scaling --axis frames --turns 2
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import click

from benchmarks.engines.turns import PEAK, Best, Peak, job_of, machine_facts
from benchmarks.engines.variants import VARIANTS, YARDSTICK, Runner
from benchmarks.measuring.bases import CACHE_DIR, Exported, export_base
from benchmarks.measuring.flops import FlopTable, base_flops
from benchmarks.measuring.in_process import all_cores, chosen_engine
from benchmarks.measuring.processes import KeptProcess, in_own_process
from benchmarks.measuring.record import finish, say, write_option
from benchmarks.measuring.timing import Spread, in_random_turns
from unsee.export.graphs.sizes import Sizes
from unsee.export.measured_graphs import feeds_at
from unsee.playground.training.program import exit_code_of

PROMPT = "Zorpik jumping in the forest"
SEED = 7


@dataclass(frozen=True)
class Axis:
    """What grows on which base; `sizes` makes a call's sizes of one value, None for whole clips."""

    base: str
    values: tuple[int, ...]
    sizes: Callable[[int], Sizes] | None


AXES = {
    "steps": Axis("playground", (4, 8, 12, 25, 50), None),
    "frames": Axis("playground", (4, 8, 16, 24, 32), lambda value: {"F": value}),
    "batch": Axis("playground", (1, 2, 4, 8), lambda value: {"B": value}),
    "resolution": Axis("middle", (8, 16, 24, 32), lambda value: {"h": value, "w": value}),
}
"""Steps are of a whole clip; frames, rows and latents' edge are of one call of the denoiser."""


@click.command()
@click.option(
    "--axis",
    "axes",
    type=click.Choice(list(AXES)),
    multiple=True,
    default=list(AXES),
    help="Repeat it for several; all by default.",
)
@click.option("--turns", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="[default: as many as there are cores]")
@click.option("--seed", type=int, default=SEED, show_default=True, help="Of the turns' order.")
@write_option
def scaling(axes: Sequence[str], turns: int, threads: int | None, seed: int, write: bool) -> None:
    """Measure how the cost of a clip grows."""
    threads = threads or all_cores()
    exported = {
        name: in_own_process(export_base, name, CACHE_DIR)
        for name in dict.fromkeys(("playground", *(AXES[axis].base for axis in axes)))
    }
    served = str(chosen_engine(exported["playground"].repository_dir)("video_denoiser"))
    measured = {}
    for name in [axis for axis in AXES if axis in axes]:
        base = exported[AXES[name].base]
        engines = [served, YARDSTICK]
        measured[name] = measure(name, base, engines, turns, threads, seed)
    record = {
        "machine": machine_facts(),
        "threads": threads,
        "turns": turns,
        "served": served,
        "axes": measured,
    }
    finish("performance/scaling", record, write=write)


def measure(
    name: str, exported: Exported, engines: Sequence[str], turns: int, threads: int, seed: int
) -> dict[str, Any]:
    """The points of an axis, by engine and value, as JSON has them."""
    axis, table = AXES[name], base_flops(exported.base_dir)
    asked = {value: _flops(axis, table, value) for value in axis.values}
    with ExitStack() as stack:
        opened = {
            engine: stack.enter_context(KeptProcess(Runner, job_of(engine, exported, threads)))
            for engine in dict.fromkeys(engines)
        }
        peak = stack.enter_context(KeptProcess(Peak, threads))
        work = {
            (engine, value): _work(axis, table, opened[engine], value)
            for engine in opened
            for value in axis.values
        }
        say(f"{name}: warming up")
        for operation in work.values():
            operation()
        best = Best(peak)
        ways: dict[tuple[str, int], Callable[[], float]] = {**work, (PEAK, 0): best.measure}
        seconds = in_random_turns(ways, turns, seed, lambda line: say(f"{name}: {line}"))
    points = [
        {
            "engine": engine,
            "value": value,
            "flops": asked[value],
            "seconds": dataclasses.asdict(spread := Spread.of(taken)),
            "share_of_peak": asked[value] / spread.median / best.flops[VARIANTS[engine].precision],
        }
        for (engine, value), taken in seconds.items()
        if engine != PEAK
    ]
    return {"base": axis.base, "peak_flops": best.flops, "points": points}


def _work(axis: Axis, table: FlopTable, engine: KeptProcess, value: int) -> Callable[[], float]:
    """Measures once how long the engine takes at a value, in seconds."""
    if axis.sizes is None:
        return lambda: engine.call("clip", PROMPT, SEED, value)[0]
    graph = table.graphs["video_denoiser"]
    sizes = table.clip_sizes("video_denoiser", **axis.sizes(value))
    feeds = feeds_at(graph, sizes)
    return lambda: engine.call("step_seconds", feeds, 1)


def _flops(axis: Axis, table: FlopTable, value: int) -> int:
    if axis.sizes is None:
        return table.of_clip(value)
    return table.of_clip_call("video_denoiser", **axis.sizes(value))


if __name__ == "__main__":
    sys.exit(exit_code_of(scaling))
