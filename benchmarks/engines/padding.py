"""What a denoising step saves where one row stands for a prompt's padding, instead of 512 in all.

A transformer of the second base's size with random weights, five latent frames of 8x8 and guidance;
the prompt has 20 tokens. Padded, the graph is diffusers' own, which is given every row.

    python -m benchmarks.engines.padding
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.measuring.in_process import all_cores
from benchmarks.measuring.record import as_json, say
from benchmarks.measuring.timing import Spread, in_turn, times_faster
from unsee.export.engines.engine import Engine
from unsee.export.engines.measurement import Feeds
from unsee.export.engines.session import open_graph
from unsee.export.graphs.denoiser_graph import VideoDenoiserGraph
from unsee.export.graphs.modules import VideoUNetModule
from unsee.export.onnx.exporter import export_onnx
from unsee.playground.networks.wan import PADDED_LENGTH, new_transformer
from unsee.playground.training.program import exit_code_of
from unsee.repository.base import prompt_rows

TOKENS, SEED = 20, 7
SIZES = {"B": 2, "F": 5, "h": 8, "w": 8}
ENGINES = ("onnxruntime", "openvino")


class PaddedGraph(VideoDenoiserGraph):
    """The same, of a model that computes every row."""

    def wrap(self, model: Any) -> torch.nn.Module:
        return VideoUNetModule(model).eval()


@click.command()
@click.option("--turns", type=click.IntRange(min=1), default=30, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="[default: as many as there are cores]")
def padding(turns: int, threads: int | None) -> None:
    """Time a step both ways in turn, and print seconds, ratio and difference as JSON."""
    torch.manual_seed(SEED)
    transformer = new_transformer().eval()
    torch.nn.init.normal_(transformer.proj_out.weight, std=0.02)
    rows = prompt_rows(TOKENS, PADDED_LENGTH)
    kinds = {"padded": (PaddedGraph, PADDED_LENGTH), "counted": (VideoDenoiserGraph, rows)}
    with tempfile.TemporaryDirectory(prefix="unsee-padding-") as name:
        files, given = {}, {}
        for kind, (graph_class, length) in kinds.items():
            graph = graph_class.of(transformer, PADDED_LENGTH, 1000, 8, 4)
            files[kind] = Path(name) / kind / "1" / "model.onnx"
            files[kind].parent.mkdir(parents=True)
            say(f"exporting the {kind} graph")
            export_onnx(graph, transformer, files[kind])
            given[kind] = _feeds(graph, length)
        engines = {}
        for one in ENGINES:
            say(f"{one}: {turns} turns")
            engines[one] = _timed(one, files, given, threads or all_cores(), turns)
    click.echo(as_json({"rows": rows, "turns": turns, "engines": engines}), nl=False)


def _feeds(graph: VideoDenoiserGraph, length: int) -> Feeds:
    """Inputs by name, equal but for the number of rows of zeros behind `TOKENS` states."""
    inputs = graph.example_inputs({**SIZES, "L": TOKENS}, SEED)
    zeros = (0, 0, 0, length - TOKENS)
    padded = (*inputs[:2], torch.nn.functional.pad(inputs[2], zeros))
    return {spec.name: x.numpy() for spec, x in zip(graph.inputs, padded, strict=True)}


def _timed(
    engine: str, files: dict[str, Path], given: dict[str, Feeds], threads: int, turns: int
) -> dict[str, Any]:
    shapes = {kind: {n: x.shape for n, x in feeds.items()} for kind, feeds in given.items()}
    opened = {
        k: open_graph(file, Engine.of(f"{engine}-float32"), threads, shapes[k])
        for k, file in files.items()
    }
    outputs = {kind: run(**given[kind]) for kind, run in opened.items()}
    ways = {kind: lambda run=run, kind=kind: run(**given[kind]) for kind, run in opened.items()}
    seconds = in_turn(ways, turns)
    apart = abs(outputs["counted"] - outputs["padded"]).max() / outputs["padded"].std()
    return {
        "seconds": {kind: asdict(Spread.of(each)) for kind, each in seconds.items()},
        "times_faster": asdict(times_faster(seconds["padded"], seconds["counted"])),
        "difference_std": float(apart),
    }


if __name__ == "__main__":
    sys.exit(exit_code_of(padding))
