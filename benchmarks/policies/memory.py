"""What one more policy costs a server, and what an edit costs a prompt.

A real server's `prompt_encoder` encodes with ever more policies, each an edit of its own; the
kernel says what its process holds then. Beside that: what a revision takes on the disk, how long
its first and its later prompts take, and a prompt by a graph of the whole edited encoder, as a
Triton model of its own, which is what a policy was before it was an edit.

    python -m benchmarks.policies.memory --write
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil
from tritonclient.grpc import service_pb2

from benchmarks.measuring.bases import CACHE_DIR
from benchmarks.measuring.processes import in_own_process
from benchmarks.measuring.record import MEASURED, finish, write_option
from benchmarks.measuring.timing import Spread, in_turn, seconds_of
from unsee.export.engines.machine import this_machine
from unsee.playground.training.program import exit_code_of
from unsee.repository.layout import (
    MODEL_FILE,
    PROMPT_ENCODER,
    TEXT_ENCODER,
    VERSION,
    policy_model,
    version_dir,
)
from unsee.serving.server.triton import ServerSettings, TritonServer
from unsee.serving.supervisor.processes import live_stubs
from unsee.triton.prompt_request import prompt_request
from unsee.triton.server import ModelVersion, Server

COUNTS = (1, 2, 11, 101, 1001)
"""How many policies have been asked for: the base's own, and so many more."""
RECORD = "performance/memory"
RANK, CONCEPTS = 16, 9
ENCODERS = ("playground", "clip-l", "vit-h", "umt5-xxl")
FEW_TOKENS = 8
TURNS = 15
TIMEOUT_S = 60.0
TUNED = "tuned"
"""The policy that is served as a whole encoder."""

Figures = dict[str, Any]


@click.command()
@click.option("--encoder", "encoders", multiple=True, type=click.Choice(ENCODERS), default=ENCODERS)
@click.option(
    "--most", type=click.IntRange(10), default=COUNTS[-1] - 1, show_default=True, help="Policies."
)
@write_option
def policy_memory(encoders: tuple[str, ...], most: int, write: bool) -> None:
    """Measure the memory, the disk and the time that policies take.

    Figures of other encoders that were kept from this machine are kept on.
    """
    CACHE_DIR.mkdir(parents=True, exist_ok=True)
    counts = tuple(count for count in COUNTS if count <= most + 1)
    facts = _facts()
    record: Figures = facts | {"encoders": _kept(facts)}
    for name in encoders:
        folder = Path(tempfile.mkdtemp(prefix="policy-memory-", dir=CACHE_DIR))
        try:
            repository_dir = folder / "repository"
            click.echo(f"{name}: writing {max(counts)} policies", err=True)
            written = in_own_process(written_edits, name, max(counts), repository_dir)
            record["encoders"][name] = written | measure(repository_dir, counts, folder / "log")
        finally:
            shutil.rmtree(folder)
    found = record["encoders"]
    record["encoders"] = {name: found[name] for name in ENCODERS if name in found}
    finish(RECORD, record, write=write)


def _facts() -> Figures:
    """What figures must have in common to stand in one record, as JSON has it."""
    machine = this_machine().model_dump(mode="json")
    return {"machine": machine, "rank": RANK, "concepts": CONCEPTS}


def _kept(facts: Figures, folder: Path = MEASURED) -> Figures:
    """The encoders of the record in `folder`, if that has the same `facts`."""
    file = folder / f"{RECORD}.json"
    known = json.loads(file.read_bytes()) if file.exists() else {}
    return dict(known["encoders"]) if facts.items() <= known.items() else {}


def written_edits(name: str, count: int, repository_dir: Path) -> Figures:
    """See `write_edits`; of a process of its own, since it imports PyTorch."""
    from benchmarks.policies.edits import write_edits

    return write_edits(name, count - 1, RANK, CONCEPTS, repository_dir)


def measure(repository_dir: Path, counts: Sequence[int], log_path: Path) -> Figures:
    """The figures of a server on a repository of `write_edits`, with so many policies in use."""
    ids, mask = _tokens(repository_dir)
    settings = ServerSettings.on_free_ports(repository_dir, log_path, threads=1)
    with TritonServer(settings) as running:
        server = Server(settings.grpc_url)

        def ask(policy: str) -> None:
            server.call("ModelInfer", prompt_request(policy, VERSION, ids, mask), TIMEOUT_S)

        memory, opened = _growing(running, counts, ask)
        server.load(policy_model(TUNED))
        ways = {
            "edit": lambda: ask("policy-1"),
            "whole": lambda: _ask_whole(server, ids, mask),
        }
        in_turn(ways, 2)
        seconds = in_turn(ways, TURNS)
    return {
        "counts": counts,
        "memory_bytes": memory,
        "first_prompt_s": statistics.median(opened),
        "prompt_s": {name: asdict(Spread.of(taken)) for name, taken in seconds.items()},
    }


def _growing(
    running: TritonServer, counts: Sequence[int], ask: Callable[[str], None]
) -> tuple[list[int], list[float]]:
    """Bytes of the process after each count, and seconds of each policy's first prompt."""
    memory, opened = [], []
    names = ["base", *(f"policy-{number}" for number in range(1, max(counts)))]
    for count, name in enumerate(names, start=1):
        opened.append(seconds_of(lambda name=name: ask(name)))  # type: ignore[misc]
        if count in counts:
            memory.append(_bytes(running))
            click.echo(f"{count} policies: {memory[-1] / 2**20:.0f} MiB", err=True)
    return memory, opened[1:]


def _bytes(running: TritonServer) -> int:
    """What the process of `prompt_encoder` holds, shared pages split (proportional set size)."""
    wanted = ModelVersion(PROMPT_ENCODER, VERSION)
    (pid,) = (pid for pid, one in live_stubs(running.pid).items() if one == wanted)
    return int(psutil.Process(pid).memory_full_info().pss)


def _ask_whole(server: Server, ids: Any, mask: Any) -> None:
    request = service_pb2.ModelInferRequest(model_name=policy_model(TUNED))
    request.outputs.add(name="prompt_embeds")
    for name, array in (("input_ids", ids), ("attention_mask", mask)):
        request.inputs.add(name=name, datatype="INT64", shape=array.shape)
        request.raw_input_contents.append(np.ascontiguousarray(array).tobytes())
    server.call("ModelInfer", request, TIMEOUT_S)


def _tokens(repository_dir: Path) -> tuple[Any, Any]:
    """Two prompts of random words, of the length that the repository's encoder takes, or of few
    tokens where it takes any number."""
    import onnx

    file = version_dir(repository_dir, TEXT_ENCODER) / MODEL_FILE
    graph = onnx.load(file, load_external_data=False).graph
    length = graph.input[0].type.tensor_type.shape.dim[1].dim_value
    ids = np.random.default_rng(0).integers(0, 200, (2, length or FEW_TOKENS))
    return ids, np.ones_like(ids)


if __name__ == "__main__":
    sys.exit(exit_code_of(policy_memory))
