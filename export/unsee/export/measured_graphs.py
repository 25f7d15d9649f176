"""What the choice of engines measures of a base: its exported graphs, and frames of one clip.

The clip is the base's default one, with its own scheduler and the first of its prompts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unsee.export.engines.choice import ClipComparison, MeasuredGraph, Runnables
from unsee.export.engines.engine import ONNXRUNTIME, Engine
from unsee.export.engines.measurement import Feeds
from unsee.export.engines.session import Runnable, open_graph
from unsee.export.graphs.denoiser_graph import VideoDenoiserGraph
from unsee.export.graphs.graphs import Graph, sized
from unsee.export.graphs.sizes import Sizes
from unsee.export.text_to_video.sampler_tables import Tables
from unsee.export.text_to_video.sampling_check import sampling_psnr
from unsee.models.base import Base
from unsee.repository.base import prompt_rows
from unsee.repository.layout import MODEL_FILE

SAMPLING_S = 20.0
"""A clip that would take longer is made in fewer steps to judge an engine."""
LEAST_STEPS = 2
INPUT_SEED = 20_240_714
PROMPT = "a video"
"""What is asked of a base that names no prompts."""


@dataclass(frozen=True)
class ExportedGraph:
    """A graph, the version folder that holds its ONNX file, and the digest of that file."""

    graph: Graph
    version_dir: Path
    digest: str

    @property
    def file(self) -> Path:
        """The ONNX file."""
        return self.version_dir / MODEL_FILE

    @property
    def model(self) -> str:
        """The Triton model whose graph it is."""
        return self.version_dir.parent.name


def call_sizes(graph: Graph, base: Base) -> Sizes:
    """The sizes of a call while the base's default clip is made, with the first of its prompts."""
    sizes = dict(graph.clip_sizes(base.spec.clip))
    if isinstance(graph, VideoDenoiserGraph):
        if base.spec.clip.guidance_scale <= 1.0:
            sizes["B"] = 1  # without guidance there is no second row
        if graph.any_length:
            sizes["L"] = prompt_rows(_num_tokens(base), graph.sequence_length)
    return sizes


def measured_graph(exported: ExportedGraph, base: Base, threads: int) -> MeasuredGraph:
    """The graph at the sizes of the base's default clip."""
    sizes = call_sizes(exported.graph, base)
    return MeasuredGraph(
        name=exported.graph.name,
        digest=exported.digest,
        sizes=sizes,
        feeds=lambda: feeds_at(exported.graph, sizes),
        open=lambda engine: _opened(exported, engine, threads, sizes),
    )


def clip_comparison(
    prompt_graphs: Sequence[ExportedGraph], base: Base, tables: Tables, threads: int
) -> ClipComparison:
    """Frames of the base's default clip, with its own sampler and its first prompt.

    `prompt_graphs` are the text encoder and the base's own policy.
    """
    others = {
        one.model: _opened(one, ONNXRUNTIME, threads, one.graph.clip_sizes(base.spec.clip))
        for one in prompt_graphs
    }
    prompts = (_prompt(base),)

    def psnr_db(run: Runnables, reference: Runnables, call_s: float) -> float:
        steps = _steps(base, tables, call_s)
        return sampling_psnr(base, tables, run, reference, base.spec.clip, prompts, steps)

    return ClipComparison(others=others, psnr_db=psnr_db)


def _prompt(base: Base) -> str:
    return (*base.prompts(), PROMPT)[0]


def _num_tokens(base: Base) -> int:
    """Of the first prompt, with those that frame it."""
    return len(base.tokenizer()(base.prompt_frame().text(_prompt(base))).input_ids)


def _steps(base: Base, tables: Tables, call_s: float) -> int:
    """The base's own number of steps or, if those take too long, the next that is offered."""
    offered = tables[type(base.t2v_scheduler()).__name__]
    wanted = base.spec.clip.num_inference_steps
    affordable = max(LEAST_STEPS, math.floor(SAMPLING_S / call_s))
    return min((s for s in offered if s >= min(wanted, affordable)), default=wanted)


def feeds_at(graph: Graph, sizes: Sizes) -> Feeds:
    """Inputs of a graph by name, of given sizes; always the same."""
    tensors = graph.example_inputs(sizes, seed=INPUT_SEED)
    return {spec.name: x.numpy() for spec, x in zip(graph.inputs, tensors, strict=True)}


def _opened(exported: ExportedGraph, engine: Engine, threads: int, sizes: Sizes) -> Runnable:
    shapes = {tensor.name: sized(tensor.dims, sizes) for tensor in exported.graph.inputs}
    return open_graph(exported.file, engine, threads, shapes)
