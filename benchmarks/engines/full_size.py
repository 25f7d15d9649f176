"""The export of video models of real size: seconds, memory, disk, and how exact the graphs are.

A base with random weights is written once; then each graph is exported through the code of `unsee
export`, in a process of its own, and clips are sampled with the exported graphs and with PyTorch
from the same noise. What is already there is found again and not made twice.

    python -m benchmarks.engines.full_size --size modelscope --precision float16
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from benchmarks.measuring.processes import in_own_process
from benchmarks.measuring.real_size import VIDEO_SIZES, write_video_base
from benchmarks.measuring.record import MEASURED, as_json, write_option, write_record
from unsee.cli.parameters import NEW_FOLDER
from unsee.core.files import write_file, write_json
from unsee.core.policy import BASE_POLICY
from unsee.playground.training.program import exit_code_of
from unsee.repository.layout import TEXT_ENCODER, VAE_DECODER, VIDEO_DENOISER, policy_model

BASE_MODEL = policy_model(BASE_POLICY)
PROMPTS = ("a dog runs over a meadow",)
_BASE_SECONDS = "base_seconds.json"

Result = TypeVar("Result")


@click.command()
@click.option("--size", type=click.Choice(list(VIDEO_SIZES)), required=True)
@click.option(
    "--precision",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="Of the video denoiser and the VAE decoder; the text encoder is always float32.",
)
@click.option(
    "--output-dir",
    type=NEW_FOLDER,
    default="build/full_size",
    show_default=True,
    help="Holds the base and its exports; several times 5 GB.",
)
@click.option("--frames", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--steps", type=click.IntRange(min=1), default=3, show_default=True)
@write_option
def full_size_export(
    size: str, precision: str, output_dir: Path, frames: int, steps: int, write: bool
) -> None:
    """Export a video model of real size with random weights, and check it."""
    folder = output_dir.resolve() / size
    base_seconds = in_own_process(write_base_once, folder, size)
    rows = []
    in_own_process(export_graph, folder, BASE_MODEL, "float32")  # a normalisation: in no figure
    for graph in (TEXT_ENCODER, VAE_DECODER, VIDEO_DENOISER):
        of_graph = "float32" if graph == TEXT_ENCODER else precision
        click.echo(f"exporting the {graph} of {size} in {of_graph} …", err=True)
        rows.append(in_own_process(export_graph, folder, graph, of_graph))
    click.echo(f"sampling {frames} frames in {steps} steps …", err=True)
    sampling = in_own_process(
        sample, folder, precision, frames, VIDEO_SIZES[size].smallest_pixels, steps
    )
    record = {
        "size": size,
        "precision": precision,
        "machine": _machine(),
        "base_seconds": base_seconds,
        "graphs": rows,
        "sampling": sampling,
    }
    write_file(folder / f"{precision}.json", as_json(record))
    click.echo(as_json(record), nl=False)
    if write:
        write_run(record, MEASURED)


def write_run(record: dict[str, Any], folder: Path) -> None:
    """Put `record` in the place of an older one of its size and precision in the page's record."""
    file = folder / "real_models.json"
    known = json.loads(file.read_bytes()) if file.exists() else []
    runs = {(one["size"], one["precision"]): one for one in (*known, record)}
    write_record("real_models", [runs[key] for key in sorted(runs)], folder)


def write_base_once(folder: Path, size: str) -> float:
    """Write the base of this size unless it is there; returns the seconds that it took then."""
    noted = folder / _BASE_SECONDS
    if not noted.exists():
        started = time.perf_counter()
        write_video_base(folder / "base", size)
        write_json(noted, round(time.perf_counter() - started, 1))
    seconds: float = json.loads(noted.read_text())
    return seconds


def export_graph(
    folder: Path, name: str, precision: Literal["float32", "float16"]
) -> dict[str, Any]:
    """Export one graph unless it is up to date; its record, what loading took, and bytes."""
    from unsee.export.memory import peak_memory
    from unsee.export.version import export_once

    started = time.perf_counter()
    with peak_memory() as memory:
        graph, model = _graph_and_model(folder, name)
    loading_s = round(time.perf_counter() - started, 3)
    version_dir = _version_dir(folder, name, precision)
    record, _ = export_once(graph, model, version_dir, precision)
    return {
        "export": record.model_dump(mode="json"),
        "loading_s": loading_s,
        "loading_peak_bytes": memory.peak_bytes,
        "disk_bytes": sum(file.stat().st_size for file in version_dir.iterdir()),
    }


def sample(folder: Path, precision: str, frames: int, pixels: int, steps: int) -> dict[str, Any]:
    """Clips of PyTorch float32, then of the exported graphs: seconds, memory and PSNR."""
    from unsee.export.memory import peak_memory
    from unsee.export.text_to_video.sampling_check import psnr

    size = {"num_frames": frames, "height": pixels, "width": pixels}
    clip = _base(folder).spec.clip.model_copy(update=size)
    with peak_memory() as torch_memory:
        sampling, expected, torch_s = _sampled_in_torch(folder, clip, steps)
    gc.collect()
    files = {
        name: _version_dir(folder, name, of_graph) / "model.onnx"
        for name, of_graph in (
            (TEXT_ENCODER, "float32"),
            (BASE_MODEL, "float32"),
            (VIDEO_DENOISER, precision),
            (VAE_DECODER, precision),
        )
    }
    with peak_memory() as onnx_memory:
        run = {name: _runnable(file) for name, file in files.items()}
        clips, onnxruntime_s = _timed(lambda: sampling.clips(run, clip, PROMPTS))
    return {
        **size,
        "steps": steps,
        "psnr_db": round(psnr(clips, expected), 2),
        "torch_s": torch_s,
        "torch_peak_bytes": torch_memory.peak_bytes,
        "onnxruntime_s": onnxruntime_s,
        "onnxruntime_peak_bytes": onnx_memory.peak_bytes,
    }


def _sampled_in_torch(folder: Path, clip: Any, steps: int) -> tuple[Any, Any, float]:
    """What samples, its clips in PyTorch and their seconds; the models are freed on return."""
    from unsee.export.text_to_video.sampler_tables import sampler_tables
    from unsee.export.text_to_video.sampling_check import SamplingRuns, torch_runnables
    from unsee.models.schedulers import offered_schedulers

    base = _base(folder)
    tables = sampler_tables(offered_schedulers(base).offered, steps)
    sampling = SamplingRuns(base, tables, steps)
    reference = torch_runnables(base)
    return sampling, *_timed(lambda: sampling.clips(reference, clip, PROMPTS))


def _graph_and_model(folder: Path, name: str) -> tuple[Any, Any]:
    """The graph and the model that it is of; other models are freed on return."""
    from unsee.deltas.edit import final_layer_norm, trunk
    from unsee.export.graphs.base_graphs import (
        edit_graph,
        text_encoder_graph,
        vae_decoder_graphs,
        video_denoiser_graph,
    )

    base = _base(folder)
    if name == TEXT_ENCODER:
        return text_encoder_graph(base), trunk(base.text_encoder())
    if name == BASE_MODEL:
        return edit_graph(base), final_layer_norm(base.text_encoder())
    if name == VAE_DECODER:
        return vae_decoder_graphs(base)[0], base.t2v_vae()
    return video_denoiser_graph(base), base.t2v_denoiser()


def _base(folder: Path) -> Any:
    from unsee.models.base import load_base

    return load_base(folder / "base")


def _version_dir(folder: Path, name: str, precision: str) -> Path:
    return folder / precision / name / "1"


def _runnable(file: Path) -> Callable[..., Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda **inputs: session.run(None, inputs)[0]


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    started = time.perf_counter()
    result = work()
    return result, round(time.perf_counter() - started, 3)


def _machine() -> dict[str, Any]:
    from unsee.export.engines.machine import this_machine

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {**this_machine().model_dump(mode="json"), "memory_bytes": memory}


if __name__ == "__main__":
    sys.exit(exit_code_of(full_size_export))
