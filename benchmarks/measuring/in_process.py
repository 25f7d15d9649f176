"""The code of `text_to_video` in this process: whole clips from graphs that are plain functions."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unsee.export.engines.engine import ONNXRUNTIME, Engine
from unsee.export.engines.record import read_choice
from unsee.export.engines.session import Array, Runnable, open_graph
from unsee.export.text_to_video.sampling_check import BASE_MODEL, LoopGraphs
from unsee.export.text_to_video.serving_code import make_importable
from unsee.repository.layout import (
    ENGINES_FILE,
    MODEL_FILE,
    TEXT_ENCODER,
    VAE_DECODER,
    VAE_DECODER_NEXT,
    VIDEO_DENOISER,
    version_dir,
)

CHOSEN_GRAPHS = (VIDEO_DENOISER, VAE_DECODER, VAE_DECODER_NEXT)
PROMPT_GRAPHS = (TEXT_ENCODER, BASE_MODEL)


class InProcess(LoopGraphs):
    """Makes clips of an exported base with `graphs`, functions of their inputs by name.

    Of the latest clip, `stage_seconds` is what each stage took, as records of clips have it, and
    `num_evaluations` how often the video denoiser was called.
    """

    stage_seconds: Mapping[str, float]
    num_evaluations: int

    def __init__(self, repository_dir: Path, graphs: Mapping[str, Runnable]) -> None:
        make_importable()
        from text_to_video.base import read_base
        from text_to_video.policies import PolicyPointer
        from text_to_video.sampler import SamplerTables
        from text_to_video.tokens import PromptTokenizer

        assets = repository_dir / "text_to_video" / "assets"
        self._base = read_base(assets / "base.json")
        self._tables = SamplerTables(assets / "samplers.safetensors")
        self._tokenizer = PromptTokenizer(assets / "tokenizer.json", self._base)
        self._pointer = PolicyPointer(repository_dir)
        super().__init__(graphs)

    def generate(self, prompt: str, seed: int, **options: float | str) -> Array:
        """Frames uint8 [F, H, W, 3]; `options` are other inputs of a request by name."""
        from text_to_video.acceleration import PACES, accelerated
        from text_to_video.generation import Plan, generate
        from text_to_video.request import parse_request

        values = {"prompt": prompt, "seed": seed, "policy": "base", **options}
        request = parse_request({name: _input(value) for name, value in values.items()}, self._base)
        revision = self._pointer.resolve(request.policy, None)
        tokens = self._tokenizer.encode(negative_prompt="", prompt=request.prompt)
        table = self._tables.table(request.scheduler, request.num_inference_steps)
        table = accelerated(table, PACES[request.acceleration])
        self.num_evaluations = table.num_evaluations
        plan = Plan(request, revision, tokens, table)
        clip: Array
        clip, record = asyncio.run(generate(plan, self, self._base, lambda step: None))
        self.stage_seconds = record["seconds"]
        return clip


class Opened:
    """A graph's file as a function: opened by an engine for the shapes of its calls.

    As the server does, an engine that compiles for exact shapes opens it anew for each, unless it
    is to take `any_shapes`.
    """

    def __init__(
        self,
        file: Path,
        engine: Engine,
        threads: int,
        any_shapes: bool = False,
    ) -> None:
        self._file, self._engine, self._threads = file, engine, threads
        self._is_exact = engine.compiles_shapes and not any_shapes
        self._opened: dict[tuple[tuple[int, ...], ...], Runnable] = {}

    def __call__(self, **feeds: Array) -> Any:
        key = tuple(array.shape for array in feeds.values()) if self._is_exact else ()
        if key not in self._opened:
            self._opened[key] = self._open(feeds)
        return self._opened[key](**feeds)

    def _open(self, feeds: Mapping[str, Array]) -> Runnable:
        shapes = {
            name: array.shape if self._is_exact else [-1] * array.ndim
            for name, array in feeds.items()
        }
        return open_graph(self._file, self._engine, self._threads, shapes)


def opened_graphs(
    repository_dir: Path,
    engine: Callable[[str], Engine],
    threads: int,
    any_shapes: bool = False,
) -> dict[str, Runnable]:
    """The repository's graphs, those of prompts in ONNX Runtime, the others in `engine`."""
    engines = dict.fromkeys(PROMPT_GRAPHS, ONNXRUNTIME) | {n: engine(n) for n in CHOSEN_GRAPHS}
    files = {name: version_dir(repository_dir, name) / MODEL_FILE for name in engines}
    return {
        name: Opened(files[name], chosen, threads, any_shapes)
        for name, chosen in engines.items()
        if files[name].exists()  # only a causal autoencoder has a second graph
    }


def _input(value: float | str) -> Array:
    return np.array([value.encode()] if isinstance(value, str) else [value])


def chosen_engine(repository_dir: Path) -> Callable[[str], Engine]:
    """What the export chose for a graph; ONNX Runtime where its record is missing."""
    choice = read_choice(repository_dir / ENGINES_FILE)
    return (lambda graph: ONNXRUNTIME) if choice is None else choice.engine


def all_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))
