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

from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

import click
import torch

from benchmarks.engines.tensorrt_record import EngineReport, HostRecord, Operation, Timing, Variant
from benchmarks.engines.tensorrt_variants import PRECISION, Job, Parts, VariantRun, run_variant
from benchmarks.measuring.flops import peak_flops
from benchmarks.measuring.processes import ProcessFailed, in_own_process
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
        _say("exporting, building and checking the engines")
        record = measured(job, in_own_process(build_engines, job))
    except (UnseeError, ProcessFailed) as error:
        failure = click.ClickException(str(error))
        failure.exit_code = getattr(error, "exit_code", 1)
        raise failure from error
    click.echo(record.model_dump_json(indent=1))
    for timing in record.timings:
        faster = record.times_faster(timing)
        ratio = "" if faster is None else f", {faster:.2f} times as fast as eager"
        _say(f"{timing.variant} {timing.operation}: {timing.median_s:.4f} s{ratio}")
    if json_file:
        write_file(json_file, (record.model_dump_json(indent=1) + "\n").encode())


def build_engines(job: Job) -> tuple[EngineReport, ...]:
    """Export what is not there, build what does not fit, and compare each engine with PyTorch."""
    parts, device = Parts.of(job.base_dir), current_device()
    return tuple(_engine(parts, job, device, graph, model) for graph, model in parts.models)


def measured(job: Job, engines: tuple[EngineReport, ...]) -> HostRecord:
    """Run every variant in a process of its own; one that fails does not stop the others."""
    runs: dict[Variant, VariantRun] = {}
    failures: dict[Variant, str] = {}
    for variant in get_args(Variant):
        _say(f"timing {variant}")
        try:
            runs[variant] = in_own_process(run_variant, variant, job)
        except ProcessFailed as failed:
            failures[variant] = str(failed)
    return record_of(job, engines, runs, failures)


def record_of(
    job: Job,
    engines: tuple[EngineReport, ...],
    runs: dict[Variant, VariantRun],
    failures: dict[Variant, str],
) -> HostRecord:
    """The runs, with what the device could do at best."""
    parts = Parts.of(job.base_dir)
    peak = peak_flops(torch.device(job.device), getattr(torch, PRECISION), _MATMUL_EDGE)
    flops: dict[Operation, int] = next((run.flops for run in runs.values() if run.flops), {})
    timings = tuple(
        _timing(variant, operation, seconds, flops.get(operation), peak)
        for variant, run in runs.items()
        for operation, seconds in run.seconds.items()
    )
    return HostRecord(
        base=parts.base.name,
        base_digest=parts.base.digest(),
        clip=dict(parts.unet_graph.clip_sizes(parts.base.spec.clip)),
        steps=parts.steps(job),
        versions={library: metadata.version(library) for library in _LIBRARIES},
        peak_flops=peak,
        engines=engines,
        timings=timings,
        memory_bytes={variant: run.memory_bytes for variant, run in runs.items()},
        failures=failures,
        created_at=datetime.now(UTC),
    )


def _engine(parts: Parts, job: Job, device: Device, graph: Graph, model: Any) -> EngineReport:
    spec = parts.base.spec
    export = _export(graph, model, job.graph_dir(graph))
    profile = graph.profile(spec.clip, spec.limits)
    file, folder = job.graph_dir(graph) / MODEL_FILE, job.engine_dir(graph)
    folder.mkdir(parents=True, exist_ok=True)
    check = engine_check(graph, model, profile, PRECISION)
    kept = kept_engine(graph, file, export.sha256, PRECISION, profile, device, folder, check)
    return EngineReport(
        key=kept.record.key,
        reused=kept.reused,
        build_seconds=kept.record.build_seconds,
        plan_bytes=len(kept.plan()),
        parity=kept.record.parity,
    )


def _export(graph: Graph, model: Any, folder: Path) -> GraphExport:
    found = find_export(graph, model, folder, PRECISION)
    if found is not None:
        return found
    with locked(folder.parent), new_folder(folder, replace=True) as new:
        return export_version(graph, model, new, PRECISION)


def _timing(
    variant: Variant, operation: Operation, seconds: list[float], flops: int | None, peak: float
) -> Timing:
    timing = Timing(
        variant=variant,
        operation=operation,
        seconds=tuple(seconds),
        flops=flops,
        share_of_peak=None,
    )
    if flops is None:
        return timing
    return timing.model_copy(update={"share_of_peak": flops / timing.median_s / peak})


def _say(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    tensorrt_host()
