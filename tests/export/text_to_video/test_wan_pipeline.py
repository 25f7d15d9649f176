"""The served loop ends where diffusers' own `WanPipeline` ends, in latents and in frames."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest
import torch
from diffusers import WanPipeline
from pipeline_fakes import SIDE, tiny_pipeline

from fakes import LATENT_CHANNELS
from record_fakes import base_record
from text_to_video.base import read_base
from text_to_video.generation import Plan, generate
from text_to_video.policies import Revision
from text_to_video.request import parse_request
from text_to_video.tokens import Tokens
from unsee.export.graphs.decoder_graphs import decoder_graphs
from unsee.export.graphs.denoiser_graph import VideoDenoiserGraph
from unsee.models.quiet import quiet_libraries
from unsee.models.sampling.options import fresh, with_overrides
from unsee.models.sampling.unit_impulses import sampler_table

TOKENS, WIDTH, SEED = 512, 32, 5
LENGTHS = 2, 9
SCHEDULERS = [
    {},
    {"class": "UniPCMultistepScheduler"},
    {"class": "UniPCMultistepScheduler", "flow_shift": 12.0, "solver_order": 3},
    {"class": "DPMSolverMultistepScheduler"},
    {"class": "FlowMatchHeunDiscreteScheduler"},
    {"shift": 8.0},
]


@pytest.fixture(scope="module")
def tiny():
    pipeline = tiny_pipeline("WanPipeline", None)
    with torch.no_grad():  # so that the clip uses more than a few levels of grey
        pipeline.vae.decoder.conv_out.weight.mul_(8)
    return pipeline


@pytest.fixture(scope="module")
def hidden():
    """The embeddings of a negative and a positive prompt, each with its rows of zeros."""
    rows = torch.randn(2, TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))
    for row, length in zip(rows, LENGTHS, strict=True):
        row[length:] = 0
    return rows


@pytest.fixture
def base(tmp_path):
    file = tmp_path / "base.json"
    record = base_record(
        prompt={"masks_padding": True, "padding": "zeros", "cleans": True},
        latents={"channels": LATENT_CHANNELS, "vae_scale": 8, "frames_per_latent": 4},
        limits={
            "num_frames": [1, 17],
            "height": [SIDE, SIDE],
            "width": [SIDE, SIDE + 16],
            "size_multiple": 16,
            "prompt_tokens": TOKENS,
        },
        schedulers=["own"],
    )
    record["defaults"]["scheduler"] = "own"
    file.write_text(json.dumps(record))
    return read_base(file)


class Graphs:
    """The pipeline's own models as the serving loop calls them, in PyTorch."""

    def __init__(self, pipeline, hidden):
        first, following = decoder_graphs(pipeline.vae)
        denoiser = VideoDenoiserGraph.of(pipeline.transformer, TOKENS, 1000, 8, 4)
        self.denoiser = denoiser.wrap(pipeline.transformer)
        self.first, self.following = first.wrap(pipeline.vae), following.wrap(pipeline.vae)
        self.hidden, self.latents = hidden.numpy(), []

    async def prompt_encoder(self, revision, tokens):
        rows, length = tokens.input_ids.shape
        return self.hidden[-rows:, :length]

    async def video_denoiser(self, sample, timestep, hidden):
        assert hidden.shape[1] < TOKENS
        return run(self.denoiser, sample, timestep, hidden)

    async def vae_decoder_step(self, latents, cache):
        self.latents.append(latents)
        if cache is None:
            return run(self.first, latents)
        return run(self.following, latents, cache)


def run(module, *inputs):
    with torch.no_grad():
        outputs = module(*map(torch.from_numpy, inputs))
    return tuple(o.numpy() for o in outputs) if isinstance(outputs, tuple) else outputs.numpy()


def served(base, table, graphs, steps, **values):
    numbers = {"seed": SEED, "num_inference_steps": steps, **values}
    tensors = {name: np.array([number]) for name, number in numbers.items()}
    tensors["prompt"] = np.array([b"a cat"], np.object_)
    request = parse_request(tensors, base)
    mask = np.array([[1] * length + [0] * (max(LENGTHS) - length) for length in LENGTHS])
    tokens = Tokens(np.zeros_like(mask), mask)
    plan = Plan(request, Revision("p", 1, None), tokens, table)
    frames, _ = asyncio.run(generate(plan, graphs, base, lambda step: None))
    return np.concatenate(graphs.latents, axis=2)[0], frames


def of_diffusers(pipeline, scheduler, hidden, steps, guidance_scale, num_frames, height, width):
    shape = (LATENT_CHANNELS, 1 + (num_frames - 1) // 4, height // 8, width // 8)
    drawn = np.random.Generator(np.random.PCG64(SEED)).standard_normal(
        int(np.prod(shape)), np.float32
    )
    with quiet_libraries():
        parts = {**pipeline.components, "scheduler": fresh(scheduler)}
        own = WanPipeline(**{name: part for name, part in parts.items() if part is not None})
        own.set_progress_bar_config(disable=True)
        latents, frames = (
            own(
                prompt_embeds=hidden[1:],
                negative_prompt_embeds=hidden[:1],
                latents=torch.from_numpy(drawn).reshape(1, *shape),
                num_frames=num_frames,
                height=height,
                width=width,
                num_inference_steps=steps,
                guidance_scale=guidance_scale,
                output_type=kind,
            ).frames
            for kind in ("latent", "np")
        )
    return latents[0].numpy(), (frames[0] * 255).round().astype(np.uint8)


@pytest.mark.parametrize(
    ("steps", "guidance_scale", "num_frames", "width"),
    [(4, 5.0, 9, SIDE), (4, 1.0, 5, SIDE + 16), (1, 1.0, 1, SIDE), (2, 5.0, 17, SIDE)],
)
@pytest.mark.parametrize("options", SCHEDULERS, ids=str)
def test_the_served_loop_ends_where_the_pipeline_ends(
    tiny, hidden, base, options, steps, guidance_scale, num_frames, width
):
    scheduler = with_overrides(tiny.scheduler, options, "tiny", "schedulers.t2v")
    table, graphs = sampler_table(scheduler, steps), Graphs(tiny, hidden)
    size = {"num_frames": num_frames, "height": SIDE, "width": width}
    latents, frames = served(base, table, graphs, steps, guidance_scale=guidance_scale, **size)
    expected, clip = of_diffusers(tiny, scheduler, hidden, steps, guidance_scale, **size)
    assert np.abs(latents - expected).max() <= 1e-4 * expected.std()
    assert frames.shape == clip.shape == (num_frames, SIDE, width, 3)
    assert clip.astype(float).std() > 10, "a clip that shows something"
    assert np.abs(frames.astype(int) - clip.astype(int)).max() <= 1
