"""Builds, checks and times the TensorRT engines of a base on a GPU host.

Engines are made of the video denoiser and the VAE decoder. The text encoders stay out: they take
half a percent of a clip's time, they are what changes from policy to policy, and a swap must not
wait for a build. Each engine is compared with PyTorch in float32 on the same GPU. Then a step, a
decode and a whole clip are timed against diffusers' modules in half precision, as they are and
compiled. Every variant runs in a process of its own; nothing else should use the GPU meanwhile.

    python -m benchmarks.engines.tensorrt --base bases/playground --json tensorrt.json

Needs an NVIDIA GPU, a PyTorch with CUDA and TensorRT of the version that serves.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args

import click
import torch
from torch import Tensor

from benchmarks.measuring.flops import base_flops, peak_bytes, peak_flops
from benchmarks.measuring.processes import ProcessFailed, in_own_process
from benchmarks.measuring.record import as_json, say
from unsee.cli.parameters import FILE, FOLDER, NEW_FOLDER
from unsee.core.errors import UnseeError
from unsee.core.files import write_file
from unsee.export.graphs.base_graphs import sampling_graphs
from unsee.export.graphs.graphs import Graph
from unsee.export.onnx.half import half_copy
from unsee.export.tensorrt.build import Device, EngineRunner, current_device
from unsee.export.tensorrt.kept_engine import engine_check, kept_engine
from unsee.export.version import export_once
from unsee.models.base import Base, load_base
from unsee.playground.training.program import exit_code_of
from unsee.repository.layout import MODEL_FILE, PLAN_FILE
from unsee.repository.records import GraphPrecision

Variant = Literal["eager", "compiled", "tensorrt"]
Operation = Literal["step", "decode", "clip"]
"""A step is one guided evaluation of the video denoiser, a decode turns one clip's latents into
frames, a clip is all steps and the decode."""
YARDSTICK: Variant = "eager"
PRECISION: GraphPrecision = "float16"
_MATMUL_EDGE = 8192
_LIBRARIES = ("torch", "diffusers", "transformers", "onnx")
_WARM_UPS = 3

Function = Callable[..., Any]
Seconds = Mapping[Operation, list[float]]


@dataclass(frozen=True)
class Job:
    """What to time in a process of its own, whatever the variant.

    `steps` is the number of steps of a clip, None for the base's own.
    """

    base_dir: Path
    output_dir: Path
    repeats: int
    steps: int | None
    device: str = "cuda"

    def graph_dir(self, graph: Graph) -> Path:
        """Where the ONNX graph is kept."""
        return self.output_dir / "graphs" / graph.name

    def engine_dir(self, graph: Graph) -> Path:
        """Where its engine is kept; what the builder measured outlives another export."""
        return self.output_dir / "engines" / graph.name

    def num_steps(self, base: Base) -> int:
        """How many steps a clip has."""
        return self.steps or base.spec.clip.num_inference_steps


@click.command()
@click.option("--base", "base_dir", type=FOLDER, required=True, help="A base's folder.")
@click.option("--repeats", type=click.IntRange(min=1), default=20, show_default=True)
@click.option(
    "--steps", type=click.IntRange(min=1), default=None, help="Of a clip.  [default: the base's]"
)
@click.option(
    "--output-dir",
    type=NEW_FOLDER,
    default="build/tensorrt",
    show_default=True,
    help="Where graphs and engines are kept.",
)
@click.option("--json", "json_file", type=FILE)
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
    base, device = load_base(job.base_dir), current_device()
    return [_engine(base, job, device, graph, model) for graph, model in graphs_of(base)]


def graphs_of(base: Base) -> tuple[tuple[Graph, Any], ...]:
    """The video denoiser's graph and the VAE decoder's, each with its model, float32 on the CPU."""
    _, denoiser, decoders = sampling_graphs(base)
    return (denoiser, base.t2v_denoiser()), *((graph, base.t2v_vae()) for graph in decoders)


def measured(job: Job, engines: list[dict[str, Any]]) -> dict[str, Any]:
    """Run every variant in a process of its own; one that fails does not stop the others."""
    runs: dict[Variant, tuple[Seconds, int]] = {}
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
    runs: Mapping[Variant, tuple[Seconds, int]],
    failures: Mapping[Variant, str],
) -> dict[str, Any]:
    """One run on a GPU host, as JSON has it.

    `clip` is the size of every axis of the denoiser and `steps` the number of its evaluations;
    `memory_bytes` is what each variant's process held on the GPU after its runs; `failures` says
    in a sentence why a variant has no timings.
    """
    base, table = load_base(job.base_dir), base_flops(job.base_dir)
    peak = peak_flops(torch.device(job.device), getattr(torch, PRECISION), _MATMUL_EDGE)
    step, decode = (table.of_clip_call(name) for name in ("video_denoiser", "vae_decoder"))
    steps = job.num_steps(base)
    flops: dict[Operation, int] = {"step": step, "decode": decode, "clip": steps * step + decode}
    return {
        "schema_version": 1,
        "base": base.name,
        "base_digest": base.digest(),
        "clip": dict(table.clip_sizes("video_denoiser")),
        "steps": steps,
        "versions": {library: metadata.version(library) for library in _LIBRARIES},
        "peak_flops": peak,
        "engines": engines,
        "timings": timings_of({name: run[0] for name, run in runs.items()}, flops, peak),
        "memory_bytes": {name: run[1] for name, run in runs.items()},
        "failures": dict(failures),
        "created_at": datetime.now(UTC).isoformat(),
    }


def timings_of(
    runs: Mapping[Variant, Seconds], flops: Mapping[Operation, int], peak: float
) -> list[dict[str, Any]]:
    """Seconds of every call of every operation, how many times as fast as eager, and how near the
    GPU's limit: `flops` over the median seconds over `peak`."""
    rows = []
    for variant, seconds in runs.items():
        for operation, taken in seconds.items():
            median_s = statistics.median(taken)
            eager = statistics.median(runs[YARDSTICK][operation]) if YARDSTICK in runs else None
            rows.append(
                {
                    "variant": variant,
                    "operation": operation,
                    "seconds": taken,
                    "median_s": median_s,
                    "times_faster": None if eager is None else eager / median_s,
                    "flops": flops[operation],
                    "share_of_peak": flops[operation] / median_s / peak,
                }
            )
    return rows


def run_variant(variant: Variant, job: Job) -> tuple[Seconds, int]:
    """Time the three operations of a variant here: seconds of every call, and the bytes held."""
    base, device = load_base(job.base_dir), torch.device(job.device)
    held_before = _held_bytes(device)
    operations = _operations(base, job, *VARIANTS[variant](base, job))
    with torch.inference_mode():
        seconds = {name: _timed(one, job.repeats, device) for name, one in operations.items()}
    return seconds, _held_bytes(device) - held_before


def _eager(base: Base, job: Job) -> tuple[Function, ...]:
    return tuple(graph.wrap(half_copy(model)).to(job.device) for graph, model in graphs_of(base))


def _compiled(base: Base, job: Job) -> tuple[Function, ...]:
    mode = "max-autotune-no-cudagraphs"
    return tuple(torch.compile(module, mode=mode) for module in _eager(base, job))


def _tensorrt(base: Base, job: Job) -> tuple[Function, ...]:
    plans = ((graph, job.engine_dir(graph) / PLAN_FILE) for graph, _ in graphs_of(base))
    return tuple(EngineRunner(graph, plan.read_bytes()) for graph, plan in plans)


VARIANTS: dict[Variant, Callable[[Base, Job], tuple[Function, ...]]] = {
    "eager": _eager,
    "compiled": _compiled,
    "tensorrt": _tensorrt,
}
"""Video denoiser and VAE decoder with the signatures of the exported graphs. PyTorch's are
diffusers' own modules with its default attention, the fused one of PyTorch."""


def _operations(
    base: Base, job: Job, unet: Function, vae: Function
) -> dict[Operation, Callable[[], Tensor]]:
    inputs, latents = (
        tuple(x.to(job.device) for x in graph.example_inputs(graph.clip_sizes(base.spec.clip), 0))
        for graph, _ in graphs_of(base)
    )
    return {
        "step": partial(unet, *inputs),
        "decode": partial(vae, *latents),
        "clip": partial(_clip, base, unet, vae, inputs, job.num_steps(base)),
    }


def _clip(
    base: Base, unet: Function, vae: Function, inputs: tuple[Tensor, ...], steps: int
) -> Tensor:
    """A guided sampling run that stays on the device, with the base's own scheduler."""
    scheduler = base.t2v_scheduler()
    scheduler.set_timesteps(steps, device=inputs[0].device)
    latents, hidden = inputs[0][:1] * scheduler.init_noise_sigma, inputs[2]
    for timestep in scheduler.timesteps:
        rows = scheduler.scale_model_input(latents, timestep).expand(len(hidden), *latents[0].shape)
        prediction = unet(rows, timestep.float().expand(len(hidden)), hidden)
        without, with_prompt = prediction.chunk(2)
        guided = without + base.spec.clip.guidance_scale * (with_prompt - without)
        latents = scheduler.step(guided, timestep, latents).prev_sample
    frames: Tensor = vae(latents)
    return frames


def _timed(operation: Callable[[], Any], repeats: int, device: torch.device) -> list[float]:
    seconds = []
    for _ in range(_WARM_UPS + repeats):
        started = time.perf_counter()
        operation()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return seconds[_WARM_UPS:]


def _held_bytes(device: torch.device) -> int:
    """What is taken on the whole GPU: TensorRT's memory is not PyTorch's. On a CPU, the peak."""
    if device.type != "cuda":
        return peak_bytes(device)
    free, total = torch.cuda.mem_get_info(device)
    return total - free


def _engine(base: Base, job: Job, device: Device, graph: Graph, model: Any) -> dict[str, Any]:
    """What an engine was built from and for, what that took and how exact it is.

    `build_seconds` is that of the build that made it, also when it was `reused`.
    """
    spec = base.spec
    export, _ = export_once(graph, model, job.graph_dir(graph), PRECISION)
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


if __name__ == "__main__":
    sys.exit(exit_code_of(tensorrt_host))
