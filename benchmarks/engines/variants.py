"""What `compare.py` compares: ways to compute one base's video denoiser and VAE decoder.

Each is opened in a process of its own and driven by the very loop that serves requests.
The engines of the server are opened by the code that the export uses.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.measuring.in_process import InProcess, opened_graphs
from unsee.export.engines.engine import Engine
from unsee.export.engines.measurement import Feeds
from unsee.export.engines.session import Array, Runnable
from unsee.export.graphs.graphs import Graph

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Variant:
    """One way: `engine` is None for PyTorch; `compiled` by `torch.compile`, or for exact shapes."""

    label: str
    precision: Precision
    engine: Engine | None
    compiled: bool

    @property
    def is_torch_compile(self) -> bool:
        """Whether it is what people use who stay with PyTorch."""
        return self.engine is None and self.compiled


YARDSTICK = "eager-float32"
VARIANTS = {
    YARDSTICK: Variant("PyTorch eager, float32", "float32", None, False),
    "compile-float32": Variant("torch.compile, float32", "float32", None, True),
    "eager-bfloat16": Variant("PyTorch eager, bfloat16", "bfloat16", None, False),
    "compile-bfloat16": Variant("torch.compile, bfloat16", "bfloat16", None, True),
    "onnxruntime-float32": Variant(
        "ONNX Runtime, float32", "float32", Engine("onnxruntime"), False
    ),
    "openvino-float32": Variant("OpenVINO, float32", "float32", Engine("openvino"), True),
    "openvino-bfloat16-any-shape": Variant(
        "OpenVINO, bfloat16, any shape", "bfloat16", Engine("openvino", "bfloat16"), False
    ),
    "openvino-bfloat16": Variant(
        "OpenVINO, bfloat16", "bfloat16", Engine("openvino", "bfloat16"), True
    ),
}
"""By name; those of the server's engines that are compiled for exact shapes as `Engine` says it."""


@dataclass(frozen=True)
class Job:
    """A variant on an exported base. `inductor_dir` keeps what `torch.compile` compiled."""

    variant: str
    base_dir: Path
    repository_dir: Path
    threads: int
    inductor_dir: Path


@dataclass(frozen=True)
class Call:
    """One call of the video denoiser while a clip was made: its inputs by name, and its output."""

    feeds: Feeds
    output: Array


class Runner:
    """A variant, opened. Its methods are called one after the other from another process."""

    def __init__(self, job: Job) -> None:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(job.inductor_dir)
        variant = VARIANTS[job.variant]
        graphs = _in_torch(job, variant) if variant.engine is None else _exported(job, variant)
        self._kept = _Kept(graphs["video_denoiser"])
        self._clips = InProcess(job.repository_dir, {**graphs, "video_denoiser": self._kept})

    def open(self, prompt: str, steps: int) -> float:
        """The seconds until a first short clip is made: reading, compiling, running."""
        started = time.perf_counter()
        self._clips.generate(prompt, 0, num_inference_steps=steps)
        return time.perf_counter() - started

    def calls(self, prompt: str, seed: int, steps: int) -> list[Call]:
        """All calls of the video denoiser that a clip takes."""
        self._kept.calls = []
        self._clips.generate(prompt, seed, num_inference_steps=steps)
        calls, self._kept.calls = self._kept.calls, None
        return calls

    def outputs(self, feeds: Sequence[Feeds]) -> list[Array]:
        """The video denoiser's outputs."""
        return [self._kept(**each) for each in feeds]

    def step_seconds(self, feeds: Feeds, repeats: int) -> float:
        """The mean of `repeats` calls of the video denoiser, after one that is not timed.

        A call that is long enough to be measured alone needs no such one.
        """
        if repeats > 1:
            self._kept(**feeds)
        started = time.perf_counter()
        for _ in range(repeats):
            self._kept(**feeds)
        return (time.perf_counter() - started) / repeats

    def clip(self, prompt: str, seed: int, steps: int) -> tuple[float, Array]:
        """The seconds that a clip takes, and its frames uint8 [F, H, W, 3]."""
        started = time.perf_counter()
        frames = self._clips.generate(prompt, seed, num_inference_steps=steps)
        return time.perf_counter() - started, frames


class _Kept:
    """A graph that notes its calls while `calls` is a list."""

    def __init__(self, run: Runnable) -> None:
        self._run = run
        self.calls: list[Call] | None = None

    def __call__(self, **feeds: Array) -> Array:
        output: Array = self._run(**feeds)
        if self.calls is not None:
            copied = {name: np.array(array) for name, array in feeds.items()}
            self.calls.append(Call(copied, np.array(output)))
        return output


def _exported(job: Job, variant: Variant) -> Mapping[str, Runnable]:
    engine = variant.engine
    assert engine is not None
    any_shapes = engine.compiles_shapes and not variant.compiled
    return opened_graphs(job.repository_dir, lambda graph: engine, job.threads, any_shapes)


def _in_torch(job: Job, variant: Variant) -> Mapping[str, Runnable]:
    """The base's own modules with float32 borders; the text encoder stays eager in float32."""
    import torch

    from unsee.export.graphs.base_graphs import sampling_graphs
    from unsee.export.text_to_video.sampling_check import PROMPT_MODELS, in_torch, torch_runnables
    from unsee.models.base import load_base
    from unsee.models.quiet import quiet_libraries

    torch.set_num_threads(job.threads)
    base = load_base(job.base_dir)
    _, denoiser, decoders = sampling_graphs(base)
    prompts = {name: run for name, run in torch_runnables(base).items() if name in PROMPT_MODELS}
    dtype = getattr(torch, variant.precision)
    with quiet_libraries():
        chosen: dict[Graph, Any] = {denoiser: base.t2v_denoiser().to(dtype)}
        chosen |= dict.fromkeys(decoders, base.t2v_vae().to(dtype))
    modules = {graph: _compiled(graph.wrap(m), variant) for graph, m in chosen.items()}
    return prompts | {graph.name: in_torch(graph, module) for graph, module in modules.items()}


def _compiled(module: Any, variant: Variant) -> Any:
    """Compiled for exact shapes where asked for, with the weights packed for the CPU's kernels."""
    if not variant.compiled:
        return module
    import torch
    import torch._inductor.config as inductor

    warnings.simplefilter("ignore")  # what the compiler says of diffusers' code
    inductor.freezing = True
    return torch.compile(module, dynamic=False)
