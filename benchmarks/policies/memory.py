"""What one more policy costs a server in memory, if its encoder is served in one way or another.

The policies are the base's encoder with an appended layer of their own each, as the anchored mode
makes them. Each way serves 1, 2, 4, … of them, in processes as Triton's stubs are; all have encoded
before the kernel is asked what they hold. The ways give the same embeddings, or the command fails.

    python -m benchmarks.policies.memory --write
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from benchmarks.measuring.processes import KeptProcess, in_own_process, memory_of_children
from benchmarks.measuring.record import finish, write_option
from benchmarks.policies.sessions import Encoders

if TYPE_CHECKING:  # every process that is measured imports this file
    from benchmarks.policies.graphs import Graphs

CACHE_DIR = Path(__file__).parents[2] / "build" / "benchmarks"
COUNTS = (1, 2, 4, 8)
TOLERANCE = 1e-4
"""Largest difference between two ways, relative to the largest value."""
ENCODERS = ("playground", "clip-l")
SEED = 3

Figures = dict[str, Any]


class Fleet:
    """The processes of one way while it serves; `open` adds a policy and returns its seconds."""

    def __init__(self, stack: ExitStack, graphs: Graphs) -> None:
        self.stack, self.graphs = stack, graphs
        self.processes: list[KeptProcess] = []

    def started(self, prepack: bool, frozen: Mapping[str, Path] | None = None) -> KeptProcess:
        """One process more, without a graph."""
        kept = self.stack.enter_context(KeptProcess(Encoders, prepack, frozen or {}))
        self.processes.append(kept)
        return kept

    def open(self, number: int) -> float:
        """Serve the policy with that index."""
        raise NotImplementedError

    def encode(self, number: int, ids: Any) -> Any:
        """The embeddings of that policy for token ids [B, L]."""
        return _embeddings(self.processes[number].call("outputs", 0, {"input_ids": ids}))

    def seconds(self) -> float:
        """The median over the policies of what one encoding takes."""
        return _median(kept.call("seconds")[0] for kept in self.processes)


class Whole(Fleet):
    """A process and a whole graph for each policy."""

    def open(self, number: int) -> float:
        seconds: float = self.started(True).call("open", self.graphs.whole[number])
        return seconds


class Linked(Fleet):
    """As policies are published and served: the base's weights are a file that all map."""

    def open(self, number: int) -> float:
        seconds: float = self.started(False).call("open", self.graphs.linked[number])
        return seconds


class Shared(Fleet):
    """One process for all policies, the sessions of which share the base's tensors."""

    def open(self, number: int) -> float:
        if not self.processes:
            self.started(False, self.graphs.frozen)
        seconds: float = self.processes[0].call("open", self.graphs.linked[number])
        return seconds

    def encode(self, number: int, ids: Any) -> Any:
        return _embeddings(self.processes[0].call("outputs", number, {"input_ids": ids}))

    def seconds(self) -> float:
        return _median(self.processes[0].call("seconds"))


class Trunk(Fleet):
    """A process for the part of the graph that all share, and a small one for each policy's own."""

    def open(self, number: int) -> float:
        seconds: float = 0.0
        if not self.processes:
            seconds += self.started(True).call("open", self.graphs.trunk)
        seconds += self.started(True).call("open", self.graphs.heads[number])
        return seconds

    def encode(self, number: int, ids: Any) -> Any:
        between = self.processes[0].call("outputs", 0, {"input_ids": ids})
        return _embeddings(self.processes[1 + number].call("outputs", 0, between))

    def seconds(self) -> float:
        trunk, *heads = (kept.call("seconds")[0] for kept in self.processes)
        return float(trunk) + _median(heads)


WAYS: dict[str, type[Fleet]] = {
    "whole": Whole,
    "linked": Linked,
    "shared": Shared,
    "trunk": Trunk,
}


@click.command()
@click.option("--encoder", "encoders", multiple=True, type=click.Choice(ENCODERS), default=ENCODERS)
@write_option
def policy_memory(encoders: tuple[str, ...], write: bool) -> None:
    """Measure the memory of 1 to 8 policies' encoders, served in four ways."""
    from unsee.export.engines.machine import this_machine

    record: Figures = {"machine": this_machine().model_dump(), "counts": COUNTS, "encoders": {}}
    CACHE_DIR.mkdir(parents=True, exist_ok=True)
    for name in encoders:
        folder = Path(tempfile.mkdtemp(prefix="policy-memory-", dir=CACHE_DIR))
        try:
            click.echo(f"{name}: exporting", err=True)
            graphs, tokens = in_own_process(export_encoder, name, max(COUNTS), folder)
            record["encoders"][name] = _encoder(name, graphs, tokens)
        finally:
            shutil.rmtree(folder)
    finish("performance/memory", record, write=write)


def export_encoder(name: str, count: int, folder: Path) -> tuple[Graphs, int]:
    """The graphs of `count` policies, and how many tokens they take."""
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    from benchmarks.measuring.bases import PLAYGROUND_DIR
    from benchmarks.measuring.real_size import SIZES
    from benchmarks.policies.graphs import write_graphs
    from unsee.models.base import load_base
    from unsee.models.quiet import quiet_libraries

    with quiet_libraries():
        if name == "playground":
            base = load_base(PLAYGROUND_DIR)
            encoder, tokens = base.text_encoder(), base.tokenizer().model_max_length
        else:
            torch.manual_seed(0)
            config = CLIPTextConfig(vocab_size=SIZES["sd1"].vocabulary, **SIZES["sd1"].text_encoder)
            encoder, tokens = CLIPTextModel(config).eval(), SIZES["sd1"].tokens
        return write_graphs(encoder, tokens, count, folder), tokens


def _encoder(name: str, graphs: Graphs, tokens: int) -> Figures:
    ids = np.random.default_rng(SEED).integers(0, 200, (2, tokens))
    expected: list[Any] = []
    ways = {}
    for way, fleet in WAYS.items():
        click.echo(f"{name}: {way}", err=True)
        ways[way] = _way(fleet, graphs, lambda f: _compare(f, ids, expected))
    return {
        "tokens": tokens,
        "empty_process": _empty_process(graphs),
        "all_bytes": graphs.all_bytes,
        "own_bytes": graphs.own_bytes,
        "linked_bytes": graphs.linked[0].stat().st_size,
        "ways": ways,
    }


def _way(fleet_of: type[Fleet], graphs: Graphs, check: Callable[[Fleet], None]) -> Figures:
    figures: Figures = {"pss": [], "load_s": []}
    before = memory_of_children()
    with ExitStack() as stack:
        fleet = fleet_of(stack, graphs)
        for number in range(max(COUNTS)):
            figures["load_s"].append(fleet.open(number))
            if number + 1 in COUNTS:
                check(fleet)
                figures["pss"].append(memory_of_children() - before)
        figures["encode_s"] = fleet.seconds()
    return figures


def _empty_process(graphs: Graphs) -> int:
    """Bytes of one process more without a graph."""
    with ExitStack() as stack:
        fleet = Fleet(stack, graphs)
        fleet.started(True)
        before = memory_of_children()
        fleet.started(True)
        return memory_of_children() - before


def _compare(fleet: Fleet, ids: Any, expected: list[Any]) -> None:
    """The first policy's embeddings are those of the first way."""
    found = fleet.encode(0, ids)
    if not expected:
        expected.append(found)
    if np.abs(found - expected[0]).max() > TOLERANCE * np.abs(expected[0]).max():
        raise click.ClickException(f"{type(fleet).__name__} gives other embeddings")


def _median(seconds: Iterable[float]) -> float:
    return statistics.median(seconds)


def _embeddings(outputs: Mapping[str, Any]) -> Any:
    return outputs["last_hidden_state"]


if __name__ == "__main__":
    policy_memory()
