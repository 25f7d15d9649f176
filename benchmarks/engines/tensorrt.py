"""Builds, checks and times the TensorRT engines of a base on a GPU host.

Engines are made of the video UNet and the VAE decoder. The text encoders stay out: they take half a
percent of a clip's time, they are what changes from policy to policy, and a swap must not wait for
a build. Each engine is compared with PyTorch in float32 on the same GPU. Then a step, a decode and
a whole clip are timed against diffusers' modules in half precision, as they are and compiled. Every
variant runs in a process of its own; nothing else should use the GPU meanwhile.

    python -m benchmarks.engines.tensorrt --base bases/playground --json tensorrt.json

Needs an NVIDIA GPU, a PyTorch with CUDA and TensorRT of the version that serves.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

import click
import torch

from benchmarks.engines.tensorrt_variants import (
    PRECISION,
    YARDSTICK,
    Job,
    Operation,
    Parts,
    Variant,
    VariantRun,
    run_variant,
)
from benchmarks.measuring.flops import peak_flops
from benchmarks.measuring.processes import ProcessFailed, in_own_process
from benchmarks.measuring.record import as_json, say
from unsee.core.errors import UnseeError
from unsee.core.files import locked, new_folder, write_file
from unsee.export.graphs.graphs import Graph
from unsee.export.tensorrt.build import Device, current_device
from unsee.export.tensorrt.kept_engine import engine_check, kept_engine
from unsee.export.version import export_version, find_export
from unsee.repository.layout import MODEL_FILE
from unsee.repository.records import GraphExport

_MATMUL_EDGE = 8192
_LIBRARIES = ("torch", "diffusers", "transformers", "onnx")


@click.command()
@click.option(
    "--base", "base_dir", type=click.Path(path_type=Path), required=True, help="A base's folder."
)
@click.option("--repeats", type=click.IntRange(min=1), default=20, show_default=True)
@click.option(
    "--steps", type=click.IntRange(min=1), default=None, help="Of a clip.  [default: the base's]"
)
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default="build/tensorrt",
    show_default=True,
    help="Where graphs and engines are kept.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False))
def tensorrt_host(
    base_dir: Path, repeats: int, steps: int | None, output_dir: Path, json_file: Path | None
) -> None:
    """Build, check and time the TensorRT engines of a base on this machine's GPU."""
    job = Job(base_dir.resolve(), output_dir.resolve(), repeats, steps)
    try:
        current_device()
        say("exporting, building and checking the engines")
        record = measured(job, in_own_process(build_engines, job))
    except (UnseeError, ProcessFailed) as error:
        failure = click.ClickException(str(error))
        failure.exit_code = getattr(error, "exit_code", 1)  # type: ignore[misc]
        raise failure from error
    click.echo(as_json(record), nl=False)
    if json_file:
        write_file(json_file, as_json(record))


def build_engines(job: Job) -> list[dict[str, Any]]:
    """Export what is not there, build what does not fit, and compare each engine with PyTorch."""
    parts, device = Parts.of(job.base_dir), current_device()
    return [_engine(parts, job, device, graph, model) for graph, model in parts.models]


def measured(job: Job, engines: list[dict[str, Any]]) -> dict[str, Any]:
    """Run every variant in a process of its own; one that fails does not stop the others."""
    runs: dict[Variant, VariantRun] = {}
    failures: dict[Variant, str] = {}
    for variant in get_args(Variant):
        say(f"timing {variant}")
        try:
            runs[variant] = in_own_process(run_variant, variant, job)
        except ProcessFailed as failed:
            failures[variant] = str(failed)
    return record_of(job, engines, runs, failures)


def record_of(
    job: Job,
    engines: list[dict[str, Any]],
    runs: dict[Variant, VariantRun],
    failures: dict[Variant, str],
) -> dict[str, Any]:
    """One run on a GPU host, as JSON has it.

    `clip` is the size of every axis of the video UNet and `steps` the number of its evaluations;
    `memory_bytes` is what each variant's process held on the GPU after its runs; `failures` says
    in a sentence why a variant has no timings.
    """
    parts = Parts.of(job.base_dir)
    peak = peak_flops(torch.device(job.device), getattr(torch, PRECISION), _MATMUL_EDGE)
    return {
        "schema_version": 1,
        "base": parts.base.name,
        "base_digest": parts.base.digest(),
        "clip": dict(parts.unet_graph.clip_sizes(parts.base.spec.clip)),
        "steps": parts.steps(job),
        "versions": {library: metadata.version(library) for library in _LIBRARIES},
        "peak_flops": peak,
        "engines": engines,
        "timings": timings_of(runs, peak),
        "memory_bytes": {variant: run.memory_bytes for variant, run in runs.items()},
        "failures": failures,
        "created_at": datetime.now(UTC).isoformat(),
    }


def timings_of(runs: Mapping[Variant, VariantRun], peak: float) -> list[dict[str, Any]]:
    """Seconds of every call of every operation, how many times as fast as eager, and how near the
    GPU's limit: flops, counted on the eager variant, over the median seconds over `peak`."""
    flops: dict[Operation, int] = next((run.flops for run in runs.values() if run.flops), {})
    medians = {
        (variant, operation): statistics.median(seconds)
        for variant, run in runs.items()
        for operation, seconds in run.seconds.items()
    }
    return [
        {
            "variant": variant,
            "operation": operation,
            "seconds": runs[variant].seconds[operation],
            "median_s": median_s,
            "times_faster": medians[YARDSTICK, operation] / median_s if YARDSTICK in runs else None,
            "flops": flops.get(operation),
            "share_of_peak": flops[operation] / median_s / peak if operation in flops else None,
        }
        for (variant, operation), median_s in medians.items()
    ]


def _engine(parts: Parts, job: Job, device: Device, graph: Graph, model: Any) -> dict[str, Any]:
    """What an engine was built from and for, what that took and how exact it is.

    `build_seconds` is that of the build that made it, also when it was `reused`.
    """
    spec = parts.base.spec
    export = _export(graph, model, job.graph_dir(graph))
    profile = graph.profile(spec.clip, spec.limits)
    file, folder = job.graph_dir(graph) / MODEL_FILE, job.engine_dir(graph)
    folder.mkdir(parents=True, exist_ok=True)
    check = engine_check(graph, model, profile, PRECISION)
    kept = kept_engine(graph, file, export.sha256, PRECISION, profile, device, folder, check)
    parity = kept.record.parity
    return {
        "key": kept.record.key.model_dump(mode="json"),
        "reused": kept.reused,
        "build_seconds": kept.record.build_seconds,
        "plan_bytes": len(kept.plan()),
        "parity": parity and parity.model_dump(mode="json"),
    }


def _export(graph: Graph, model: Any, folder: Path) -> GraphExport:
    found = find_export(graph, model, folder, PRECISION)
    if found is not None:
        return found
    with locked(folder.parent), new_folder(folder, replace=True) as new:
        return export_version(graph, model, new, PRECISION)


if __name__ == "__main__":
    tensorrt_host()
