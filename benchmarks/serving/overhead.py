"""What serving a clip through Triton costs over the same loop in one process.

Both sides run the same graphs in the engines of the export's `engines.json`, with the same options,
and the very code of `text_to_video`: in one process its `Graphs` are functions, in Triton they are
models behind a gRPC stream. The clips alternate, so that a drift of the machine's speed hits both,
and the figure is the ratio pair by pair. Both make the same bytes, or the run fails. What Triton
and the graphs' own clocks say of a step tells where the difference arises; runs with one core left
free tell whether the graphs and the rest are in each other's way, and larger graphs, whether it
grows.

    python -m benchmarks.serving.overhead --repository demo/model_repository
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from tritonclient.grpc import InferenceServerClient

from benchmarks.measuring.bases import BASES, CACHE_DIR, export_base
from benchmarks.measuring.in_process import (
    CHOSEN_GRAPHS,
    InProcess,
    all_cores,
    chosen_engine,
    opened_graphs,
)
from benchmarks.measuring.processes import in_own_process
from benchmarks.measuring.record import finish, say, write_option
from benchmarks.measuring.timing import Spread, in_turn, times_faster
from unsee.cli.parameters import OLD_FOLDER
from unsee.client.client import Client
from unsee.core.errors import UnseeError
from unsee.export.engines.machine import this_machine
from unsee.export.engines.session import Array, Runnable
from unsee.playground.training.program import exit_code_of
from unsee.serving.server.triton import ServerSettings, TritonServer

PROMPT = "Zorpik jumping in the forest"
SEED = 7
UNET = "video_denoiser"
NANOSECONDS = 1e-9


class Timed:
    """A graph that adds up the seconds and the number of its calls."""

    def __init__(self, graph: Runnable) -> None:
        self._graph = graph
        self.seconds, self.calls = 0.0, 0

    def __call__(self, **feeds: Array) -> Array:
        started = time.perf_counter()
        output: Array = self._graph(**feeds)
        self.seconds += time.perf_counter() - started
        self.calls += 1
        return output


def triton_clock(operator: InferenceServerClient) -> tuple[float, float, int]:
    """What Triton has noted of the video denoiser: seconds computed, seconds in all, and calls."""
    (stats,) = operator.get_inference_statistics(UNET).model_stats
    noted = stats.inference_stats
    in_all = noted.success
    return noted.compute_infer.ns * NANOSECONDS, in_all.ns * NANOSECONDS, in_all.count


@click.command()
@click.option(
    "--repository",
    "repository_dir",
    type=OLD_FOLDER,
    help="[default: exports of the embedded bases and of larger ones of their kinds, made or found "
    "in build/benchmarks]",
)
@click.option("--pairs", type=click.IntRange(min=2), default=15, show_default=True)
@click.option(
    "--threads",
    "thread_counts",
    type=click.IntRange(min=1),
    multiple=True,
    help="Repeat it for several.  [default: as many as there are cores, and one fewer]",
)
@write_option
def serving_overhead(
    repository_dir: Path | None, pairs: int, thread_counts: tuple[int, ...], write: bool
) -> None:
    """Time clips in one process and through Triton in turn; print the ratio."""
    if write and repository_dir is not None:
        raise click.UsageError("--write is for the bases of the page; leave out --repository")
    try:
        record = measured(repository_dir, pairs, thread_counts)
    except (UnseeError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    finish("performance/overhead", record, write=write)


def measured(
    repository_dir: Path | None, pairs: int, thread_counts: Sequence[int]
) -> dict[str, Any]:
    """The record of all runs; see `compared` for what is raised."""
    if repository_dir is None:
        repositories = {
            size: in_own_process(export_base, size, CACHE_DIR).repository_dir for size in BASES
        }
    else:
        repositories = {repository_dir.name: repository_dir}
    cores = all_cores()
    return {
        "machine": this_machine().model_dump(),
        "pairs": pairs,
        "runs": [
            {"base": name} | compared(repository, threads, pairs)
            for name, repository in repositories.items()
            for threads in thread_counts or dict.fromkeys((cores, max(cores - 1, 1)))
        ],
    }


def compared(repository_dir: Path, threads: int, pairs: int) -> dict[str, Any]:
    """Clips in one process and through Triton, the graphs on `threads` threads in both.

    A step's mean seconds are the graph's own (`computes`), those that its call waits or copies, and
    the rest: the sampler's arithmetic and, through Triton, the way from one model to the other and
    back and what is done for the progress.

    Raises:
        click.ClickException: they do not give the same bytes.
        UnseeError: no repository, a Triton that does not start, a clip that is refused.
    """
    say(f"{repository_dir.name}: {pairs} pairs with {threads} threads")
    engine = chosen_engine(repository_dir)
    graphs = opened_graphs(repository_dir, engine, threads)
    unet = Timed(graphs[UNET])
    alone = InProcess(repository_dir, graphs | {UNET: unet})
    stages: dict[str, list[float]] = {"alone": [], "served": []}

    def make_alone() -> Array:
        frames = alone.generate(PROMPT, SEED)
        stages["alone"].append(alone.stage_seconds[UNET])
        return frames

    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "tritonserver.log"
        settings = ServerSettings.on_free_ports(repository_dir, log, threads=threads)
        with (
            TritonServer(settings),
            Client(settings.grpc_url) as client,
            InferenceServerClient(settings.grpc_url) as operator,
        ):

            def make_served() -> Array:
                clip = client.generate(PROMPT, seed=SEED, policy="base")
                stages["served"].append(clip.record.seconds[UNET])
                return clip.frames

            ways: dict[str, Callable[[], Array]] = {"alone": make_alone, "served": make_served}
            if not np.array_equal(make_alone(), make_served()):
                raise click.ClickException("the two ways do not give the same bytes")
            for noted in stages.values():
                noted.clear()
            unet.seconds, unet.calls = 0.0, 0
            before = triton_clock(operator)
            seconds = in_turn(ways, pairs)
            after = triton_clock(operator)
    computed, in_all, calls = (now - then for now, then in zip(after, before, strict=True))
    return {
        "threads": threads,
        "engines": {name: str(engine(name)) for name in CHOSEN_GRAPHS if name in graphs},
        "seconds_in_process": dataclasses.asdict(Spread.of(seconds["alone"])),
        "seconds_through_triton": dataclasses.asdict(Spread.of(seconds["served"])),
        "ratio": dataclasses.asdict(times_faster(seconds["served"], seconds["alone"])),
        "step_in_process": {
            "computes": unet.seconds / unet.calls,
            "waits": 0.0,
            "rest": (sum(stages["alone"]) - unet.seconds) / unet.calls,
        },
        "step_through_triton": {
            "computes": computed / calls,
            "waits": (in_all - computed) / calls,
            "rest": (sum(stages["served"]) - in_all) / calls,
        },
    }


if __name__ == "__main__":
    sys.exit(exit_code_of(serving_overhead))
