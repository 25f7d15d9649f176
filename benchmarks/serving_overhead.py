"""What serving a clip through Triton costs over the same loop in one process.

Both sides run the same graphs in the engines that the export chose, with the same options, and the
very code of `text_to_video`: in one process its `Graphs` are functions, in Triton they are models
behind a gRPC stream. The clips alternate, so that a drift of the machine's speed hits both, and the
figure is the ratio pair by pair. Both make the same bytes, or the run fails.

    python benchmarks/serving_overhead.py --repository demo/model_repository
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
from benchmark_bases import CACHE_DIR, export_base
from in_process import CHOSEN_GRAPHS, InProcess, all_cores, chosen_engine, opened_graphs
from own_process import in_own_process
from performance_page import write_page
from spread import Spread, times_faster

from unsee.client.client import Client
from unsee.export.machine import this_machine
from unsee.serving.triton import ServerSettings, TritonServer

PROMPT = "Zorpik jumping in the forest"
SEED = 7


def seconds_of(work: Callable[[], Any]) -> float:
    """How long one call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turn(ways: Mapping[str, Callable[[], Any]], turns: int) -> dict[str, list[float]]:
    """Seconds by way, one a turn; who begins changes with every turn."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for turn in range(turns):
        for name in names if turn % 2 else reversed(names):
            seconds[name].append(seconds_of(ways[name]))
    return seconds


@click.command()
@click.option(
    "--repository",
    "repository_dir",
    type=click.Path(path_type=Path, exists=True),
    help="[default: an export of the embedded base, made or found in build/benchmarks]",
)
@click.option("--pairs", type=click.IntRange(min=2), default=15, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="[default: as many as there are cores]")
@click.option("--write", is_flag=True, help="Write docs/performance.md and what belongs to it.")
def serving_overhead(
    repository_dir: Path | None, pairs: int, threads: int | None, write: bool
) -> None:
    """Time clips in one process and through Triton in turn; print the ratio."""
    if repository_dir is None:
        repository_dir = in_own_process(export_base, "playground", CACHE_DIR).repository_dir
    threads = threads or all_cores()
    engine = chosen_engine(repository_dir)
    alone = InProcess(repository_dir, opened_graphs(repository_dir, engine, threads))
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "tritonserver.log"
        settings = ServerSettings.on_free_ports(repository_dir, log, threads=threads)
        with TritonServer(settings), Client(settings.grpc_url) as client:
            ways: dict[str, Callable[[], Any]] = {
                "alone": lambda: alone.generate(PROMPT, SEED),
                "served": lambda: client.generate(PROMPT, seed=SEED, policy="base").frames,
            }
            same = bool(np.array_equal(ways["alone"](), ways["served"]()))
            seconds = in_turn(ways, pairs)
    record = {
        "machine": this_machine().model_dump(),
        "threads": threads,
        "engines": {name: str(engine(name)) for name in CHOSEN_GRAPHS},
        "pairs": pairs,
        "same_bytes": same,
        "seconds_in_process": dataclasses.asdict(Spread.of(seconds["alone"])),
        "seconds_through_triton": dataclasses.asdict(Spread.of(seconds["served"])),
        "ratio": dataclasses.asdict(times_faster(seconds["served"], seconds["alone"])),
    }
    click.echo(json.dumps(record, indent=2))
    if not same:
        raise click.ClickException("the two ways do not give the same bytes")
    if write:
        write_page("overhead", record)


if __name__ == "__main__":
    serving_overhead()
