"""What serving a clip through Triton costs over the same loop in one process.

Both sides run the same graphs with the same ONNX Runtime options and the very code of
`text_to_video`: in one process its `Graphs` are three ONNX Runtime sessions, in Triton they are
models behind a gRPC stream. The clips alternate, so that a drift of the machine's speed hits both,
and the figure is the ratio pair by pair. Both make the same bytes, or the run fails.

    python benchmarks/serving_overhead.py --repository demo/model_repository
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime

from unsee.client.client import Client
from unsee.serving.triton import ServerSettings, TritonServer

PROMPT = "Zorpik jumping in the forest"
SEED = 7


class InProcess:
    """The code of `text_to_video` in this process, on ONNX Runtime sessions."""

    def __init__(self, repository_dir: Path) -> None:
        sys.path.insert(0, str(repository_dir / "text_to_video" / "1"))
        from text_to_video.base import read_base
        from text_to_video.policies import PolicyPointer
        from text_to_video.sampler import SamplerTables
        from text_to_video.tokens import PromptTokenizer

        assets = repository_dir / "text_to_video" / "assets"
        self._base = read_base(assets / "base.json")
        self._tables = SamplerTables(assets / "samplers.safetensors")
        length = self._base.limits.prompt_tokens
        self._tokenizer = PromptTokenizer(assets / "tokenizer.json", length)
        self._pointer = PolicyPointer(repository_dir)
        names = ("text_encoder_base", "video_unet", "vae_decoder")
        self._sessions = {n: _session(repository_dir / n / "1" / "model.onnx") for n in names}

    def generate(self) -> Any:
        """Frames uint8 [F, H, W, 3] of the benchmark's prompt and seed."""
        from text_to_video.generation import Plan, generate
        from text_to_video.request import parse_request

        inputs = {
            "prompt": np.array([PROMPT.encode()], np.object_),
            "seed": np.array([SEED]),
            "policy": np.array([b"base"], np.object_),
        }
        request = parse_request(inputs, self._base)
        encoder = self._pointer.resolve(request.policy, None)
        input_ids = self._tokenizer.encode(negative_prompt="", prompt=request.prompt)
        table = self._tables.table(request.scheduler, request.num_inference_steps)
        plan = Plan(request, encoder, input_ids, table)
        return asyncio.run(generate(plan, self, self._base, lambda step: None))[0]

    async def text_encoder(self, encoder: Any, input_ids: Any) -> Any:
        return self._run("text_encoder_base", input_ids=input_ids)

    async def video_unet(self, sample: Any, timestep: Any, hidden: Any) -> Any:
        return self._run(
            "video_unet", sample=sample, timestep=timestep, encoder_hidden_states=hidden
        )

    async def vae_decoder(self, latents: Any) -> Any:
        return self._run("vae_decoder", latents=latents)

    def _run(self, name: str, **inputs: Any) -> Any:
        return self._sessions[name].run(None, inputs)[0]


def _session(path: Path) -> Any:
    """The options of the stand-in backend, which are those of NVIDIA's backend by default."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def seconds_of(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@click.command()
@click.option(
    "--repository",
    "repository_dir",
    type=click.Path(path_type=Path, exists=True),
    default="demo/model_repository",
    show_default=True,
)
@click.option("--pairs", type=click.IntRange(min=2), default=15, show_default=True)
def serving_overhead(repository_dir: Path, pairs: int) -> None:
    """Time clips in one process and through Triton in turn; print the ratio."""
    in_process = InProcess(repository_dir.resolve())
    with tempfile.TemporaryDirectory() as folder:
        settings = ServerSettings.on_free_ports(repository_dir, Path(folder) / "tritonserver.log")
        with TritonServer(settings), Client(settings.grpc_url) as client:

            def served() -> Any:
                return client.generate(PROMPT, seed=SEED, policy="base").frames

            same = bool(np.array_equal(in_process.generate(), served()))
            seconds = [(seconds_of(in_process.generate), seconds_of(served)) for _ in range(pairs)]
    alone, through = zip(*seconds, strict=True)
    ratios = sorted(b / a for a, b in seconds)
    result = {
        "pairs": pairs,
        "same_bytes": same,
        "seconds_in_process_median": statistics.median(alone),
        "seconds_through_triton_median": statistics.median(through),
        "ratio_median": statistics.median(ratios),
        "ratio_quartiles": statistics.quantiles(ratios, n=4),
        "ratio_range": [ratios[0], ratios[-1]],
    }
    click.echo(json.dumps(result, indent=2))
    if not same:
        raise click.ClickException("the two ways do not give the same bytes")


if __name__ == "__main__":
    serving_overhead()
