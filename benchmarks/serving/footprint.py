"""What a server needs at run time: megabytes by package, seconds until ready, threads.

The packages are those that the extra `serve` asks for, at any depth; their sizes are those of the
files that they installed here. The servers, one per number of threads, stay
alive side by side and make clips in turn.

    python -m benchmarks.serving.footprint --clips 3
"""

from __future__ import annotations

import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import click
from packaging.requirements import Requirement

from benchmarks.measuring.bases import CACHE_DIR, ROOT, export_base
from benchmarks.measuring.in_process import all_cores, chosen_engine
from benchmarks.measuring.processes import in_own_process, memory_of_children
from benchmarks.measuring.record import finish, write_option
from benchmarks.measuring.timing import Spread, in_turn
from benchmarks.serving.overhead import PROMPT, SEED
from unsee.client.client import Client
from unsee.export.engines.machine import this_machine
from unsee.playground.training.program import exit_code_of
from unsee.serving.server.triton import ServerSettings, TritonServer

DISTRIBUTION, EXTRA = "unsee", "serve"
FOR_COMPARISON = ("torch", "diffusers", "transformers", "onnx", "onnxscript")


@click.command()
@click.option("--clips", type=click.IntRange(min=1), default=7, show_default=True)
@write_option
def footprint(clips: int, write: bool) -> None:
    """Say what a server needs on disk and in memory, and what more threads give."""
    exported = in_own_process(export_base, "playground", CACHE_DIR)
    packages = {name: installed_bytes(name) for name in closure(EXTRA)}
    served = measure(exported.repository_dir, sorted({1, all_cores()}), clips)
    record = {
        "machine": this_machine().model_dump(),
        "engine": str(chosen_engine(exported.repository_dir)("video_denoiser")),
        "packages": dict(sorted(packages.items(), key=lambda item: -item[1])),
        "not_needed": {name: installed_bytes(name) for name in FOR_COMPARISON},
        "repository_bytes": _total_bytes(exported.repository_dir.rglob("*")),
        "served": served,
    }
    finish("performance/footprint", record, write=write)


def closure(extra: str) -> set[str]:
    """The distributions that this one with its `extra` asks for, itself included."""
    wanted, seen = [(DISTRIBUTION, ""), (DISTRIBUTION, extra)], set[tuple[str, str]]()
    while wanted:
        name, its_extra = wanted.pop()
        if (name, its_extra) in seen:
            continue
        seen.add((name, its_extra))
        for requirement in map(Requirement, _requires(name, its_extra)):
            if requirement.marker is None or requirement.marker.evaluate({"extra": its_extra}):
                wanted += [(_normal(requirement.name), e) for e in ("", *requirement.extras)]
    return {name for name, _ in seen}


def installed_bytes(distribution: str) -> int:
    """The size of the files that a distribution installed here; 0 if it is not here."""
    try:
        files = metadata.files(distribution) or ()
    except metadata.PackageNotFoundError:
        return 0
    return _total_bytes(Path(str(file.locate())) for file in files)


def measure(repository_dir: Path, threads: Iterable[int], clips: int) -> list[dict[str, Any]]:
    """Servers that make clips in turn, one for each number of threads."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        clients: dict[int, Client] = {}
        begun: dict[int, tuple[float, float, int]] = {}
        for count in threads:
            click.echo(f"a server with {count} threads", err=True)
            clients[count], begun[count] = _server(stack, repository_dir, folder, count)

        def clip_of(client: Client) -> None:
            client.generate(PROMPT, seed=SEED, policy="base")

        ways = {str(count): (lambda c=client: clip_of(c)) for count, client in clients.items()}
        seconds = in_turn(ways, clips)
    return [
        {
            "threads": count,
            "ready_s": ready_s,
            "first_clip_s": first_s,
            "clip_s": asdict(Spread.of(seconds[str(count)])),
            "memory_bytes": memory,
        }
        for count, (ready_s, first_s, memory) in begun.items()
    ]


def _server(
    stack: ExitStack, repository_dir: Path, folder: Path, threads: int
) -> tuple[Client, tuple[float, float, int]]:
    """A client of a new server, and its seconds until ready and to a first clip, and its bytes."""
    log = folder / f"tritonserver-{threads}.log"
    settings = ServerSettings.on_free_ports(repository_dir, log, threads=threads)
    before, started = memory_of_children(), time.perf_counter()
    stack.enter_context(TritonServer(settings))
    ready = time.perf_counter()
    client = stack.enter_context(Client(settings.grpc_url))
    client.generate(PROMPT, seed=SEED, policy="base")
    done = time.perf_counter()
    return client, (ready - started, done - ready, memory_of_children() - before)


def _requires(distribution: str, extra: str) -> Iterable[str]:
    if distribution == DISTRIBUTION:
        return _own_requires(extra)
    try:
        return metadata.requires(distribution) or ()
    except metadata.PackageNotFoundError:
        return ()


def _own_requires(extra: str) -> Iterable[str]:
    """As the checkout says it, which an editable installation may have been made before."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines: list[str] = project["optional-dependencies"].get(extra, project["dependencies"])
    return lines


def _normal(name: str) -> str:
    return name.lower().replace("_", "-")


def _total_bytes(files: Iterable[Path]) -> int:
    return sum(file.stat().st_size for file in files if file.is_file())


if __name__ == "__main__":
    sys.exit(exit_code_of(footprint))
