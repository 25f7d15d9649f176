"""UMT5-XXL's text encoder at full width and with some of its layers: export, parity and prompts.

Whole, it takes 22.7 GB in float32. Its layers are alike, so that two counts of them give what a
layer takes, and what all do. Each count is exported with the code of `unsee export`, in a process
of its own, with random weights; then two prompts are encoded with the file.

    python -m benchmarks.engines.large_encoder --layers 2 --layers 4 --write
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from benchmarks.measuring.bases import CACHE_DIR
from benchmarks.measuring.processes import in_own_process
from benchmarks.measuring.real_size import UMT5_TOKENS, UMT5_XXL, umt5_encoder
from benchmarks.measuring.record import finish, say, write_option
from benchmarks.measuring.timing import Spread, in_turn
from unsee.export.engines.engine import ONNXRUNTIME, Engine
from unsee.export.engines.machine import this_machine
from unsee.playground.training.program import exit_code_of
from unsee.repository.layout import MODEL_FILE

CALL = {"B": 2, "L": 64}
"""Two prompts of so many tokens."""
ENGINES = (ONNXRUNTIME, Engine("openvino"))
TURNS = 7

Figures = dict[str, Any]


@click.command()
@click.option("--layers", "counts", type=int, multiple=True, default=(2, 4), show_default=True)
@write_option
def large_encoder(counts: tuple[int, ...], write: bool) -> None:
    """Export UMT5-XXL's text encoder with so many of its 24 layers, and check it."""
    CACHE_DIR.mkdir(parents=True, exist_ok=True)
    rows = []
    for layers in counts:
        with tempfile.TemporaryDirectory(prefix="large-encoder-", dir=CACHE_DIR) as name:
            folder = Path(name)
            say(f"exporting {layers} of {UMT5_XXL['num_layers']} layers")
            row = in_own_process(exported, layers, folder)
            say("encoding two prompts")
            rows.append(row | {"engines": in_own_process(encoded, folder)})
    record = {
        "machine": this_machine().model_dump(mode="json"),
        "all_layers": UMT5_XXL["num_layers"],
        "call": CALL,
        "encoders": rows,
    }
    finish("large_encoder", record, write=write)


def exported(layers: int, folder: Path) -> Figures:
    """Export an encoder of `layers` layers into `folder`."""
    import torch

    from unsee.deltas.edit import trunk
    from unsee.export.version import export_version

    torch.manual_seed(0)
    started = time.perf_counter()
    encoder = umt5_encoder(num_layers=layers)
    made_s = round(time.perf_counter() - started, 1)
    record = export_version(_graph(), trunk(encoder), folder)
    return {
        "layers": layers,
        "made_s": made_s,
        "export": record.model_dump(mode="json"),
        "disk_bytes": sum(file.stat().st_size for file in folder.iterdir()),
    }


def encoded(folder: Path) -> Figures:
    """Seconds of `CALL` by engine, and of opening the file."""
    from unsee.export.engines.session import open_graph
    from unsee.export.graphs.graphs import sized
    from unsee.export.measured_graphs import feeds_at

    graph, threads, found = _graph(), this_machine().threads, {}
    feeds = feeds_at(graph, CALL)
    shapes = {spec.name: sized(spec.dims, CALL) for spec in graph.inputs}
    for engine in ENGINES:
        started = time.perf_counter()
        run = open_graph(folder / MODEL_FILE, engine, threads, shapes)
        opened_s = round(time.perf_counter() - started, 2)
        run(**feeds)
        seconds = in_turn({"call": lambda run=run: run(**feeds)}, TURNS)["call"]  # type: ignore[misc]
        found[str(engine)] = {"opened_s": opened_s, "call_s": asdict(Spread.of(seconds))}
        del run
    return found


def _graph() -> Any:
    from unsee.export.graphs.prompt_graphs import TextEncoderGraph

    sizes = UMT5_TOKENS, UMT5_XXL["d_model"], UMT5_XXL["vocab_size"]
    return TextEncoderGraph(*sizes, any_length=True)


if __name__ == "__main__":
    sys.exit(exit_code_of(large_encoder))
