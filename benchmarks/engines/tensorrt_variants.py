"""The ways to compute a clip that `tensorrt_host.py` compares, each timed in its own process.

Every variant is a pair of functions with the signatures of the exported graphs, so that one loop
times them all.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.measuring.flops import Meter, peak_bytes
from unsee.export.graphs.graphs import (
    Graph,
    GraphPrecision,
    Sizes,
    VAEDecoderGraph,
    VideoUNetGraph,
)
from unsee.export.onnx.half import half_copy
from unsee.export.tensorrt.build import EngineRunner
from unsee.models.base import Base, load_base
from unsee.repository.layout import PLAN_FILE

Variant = Literal["eager", "compiled", "tensorrt"]
Operation = Literal["step", "decode", "clip"]
"""A step is one guided evaluation of the video UNet, a decode turns one clip's latents into frames,
a clip is all steps and the decode."""
YARDSTICK: Variant = "eager"
PRECISION: GraphPrecision = "float16"
_WARM_UPS = 3

Function = Callable[..., Tensor]


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


@dataclass(frozen=True)
class Parts:
    """A base's two graphs and their models, float32 on the CPU."""

    base: Base
    unet_graph: VideoUNetGraph
    vae_graph: VAEDecoderGraph

    @classmethod
    def of(cls, base_dir: Path) -> Parts:
        """Load the base in `base_dir`."""
        base = load_base(base_dir)
        vae = VAEDecoderGraph.of(base.t2v_vae())
        timesteps = base.t2v_scheduler().config.num_train_timesteps
        tokens = base.tokenizer().model_max_length
        unet = VideoUNetGraph.of(base.t2v_unet(), tokens, timesteps, vae.scale)
        return cls(base, unet, vae)

    @property
    def models(self) -> tuple[tuple[Graph, Any], ...]:
        """Graph and model, the UNet first."""
        return (self.unet_graph, self.base.t2v_unet()), (self.vae_graph, self.base.t2v_vae())

    def steps(self, job: Job) -> int:
        """How many steps a clip has."""
        return job.steps or self.base.spec.clip.num_inference_steps


@dataclass(frozen=True)
class VariantRun:
    """Seconds of every call by operation; flops where they were counted; bytes held at the end."""

    seconds: dict[Operation, list[float]]
    flops: dict[Operation, int]
    memory_bytes: int


def run_variant(variant: Variant, job: Job) -> VariantRun:
    """Time the three operations of a variant, in the process that calls it."""
    parts, device = Parts.of(job.base_dir), torch.device(job.device)
    held_before = _held_bytes(device)
    unet, vae = VARIANTS[variant](parts, job)
    operations = _operations(parts, unet, vae, job)
    with torch.inference_mode():
        flops = {n: _flops(o, device) for n, o in operations.items() if variant == "eager"}
        seconds = {n: _timed(o, job.repeats, device) for n, o in operations.items()}
    return VariantRun(seconds, flops, _held_bytes(device) - held_before)


def _eager(parts: Parts, job: Job) -> tuple[Function, ...]:
    return tuple(graph.wrap(half_copy(model)).to(job.device) for graph, model in parts.models)


def _compiled(parts: Parts, job: Job) -> tuple[Function, ...]:
    mode = "max-autotune-no-cudagraphs"
    return tuple(torch.compile(module, mode=mode) for module in _eager(parts, job))


def _tensorrt(parts: Parts, job: Job) -> tuple[Function, ...]:
    return tuple(
        EngineRunner(graph, (job.engine_dir(graph) / PLAN_FILE).read_bytes())
        for graph, _ in parts.models
    )


VARIANTS: dict[Variant, Callable[[Parts, Job], tuple[Function, ...]]] = {
    "eager": _eager,
    "compiled": _compiled,
    "tensorrt": _tensorrt,
}
"""PyTorch's are diffusers' own modules with its default attention, the fused one of PyTorch."""


def _operations(
    parts: Parts, unet: Function, vae: Function, job: Job
) -> dict[Operation, Callable[[], Tensor]]:
    clip = parts.base.spec.clip
    inputs = _inputs(parts.unet_graph, parts.unet_graph.clip_sizes(clip), job)
    latents = _inputs(parts.vae_graph, parts.vae_graph.clip_sizes(clip), job)
    return {
        "step": partial(unet, *inputs),
        "decode": partial(vae, *latents),
        "clip": partial(_clip, parts, unet, vae, inputs, parts.steps(job)),
    }


def _clip(
    parts: Parts, unet: Function, vae: Function, inputs: tuple[Tensor, ...], steps: int
) -> Tensor:
    """A guided sampling run that stays on the device, with the base's own scheduler."""
    scheduler = parts.base.t2v_scheduler()
    scheduler.set_timesteps(steps, device=inputs[0].device)
    latents, hidden = inputs[0][:1] * scheduler.init_noise_sigma, inputs[2]
    for timestep in scheduler.timesteps:
        rows = scheduler.scale_model_input(latents, timestep).expand(len(hidden), *latents[0].shape)
        prediction = unet(rows, timestep.float().expand(len(hidden)), hidden)
        without, with_prompt = prediction.chunk(2)
        guided = without + parts.base.spec.clip.guidance_scale * (with_prompt - without)
        latents = scheduler.step(guided, timestep, latents).prev_sample
    return vae(latents)


def _inputs(graph: Graph, sizes: Sizes, job: Job) -> tuple[Tensor, ...]:
    return tuple(tensor.to(job.device) for tensor in graph.example_inputs(sizes, seed=0))


def _flops(operation: Callable[[], Any], device: torch.device) -> int:
    return Meter(0, device).repeat(operation).flops


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
