"""The loop that serves requests against diffusers' own, to the end, for any scheduler."""

from __future__ import annotations

import asyncio
import dataclasses
import warnings

import numpy as np
import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st

from scheduler_fakes import EVERY_CLASS, diffusers_loop, made, schedulers
from text_to_video.base import SCHEMA_VERSION, Base, Defaults, Latents, Limits, Prompt
from text_to_video.generation import Plan, generate
from text_to_video.policies import Revision
from text_to_video.request_schema import GenerationRequest
from text_to_video.tokens import Tokens
from unsee.core.errors import BaseFolderError
from unsee.models.sampling.unit_impulses import sampler_table

SHAPE = (3, 2, 2, 2)
LARGEST_DIFFERENCE = 5e-6
"""Of single precision, over the largest number that either loop multiplies with another."""


@dataclasses.dataclass(frozen=True)
class ToyModel:
    """A denoiser that is linear in its input; the prompt moves it by 1, the timestep by `drift`."""

    rate: float
    drift: float

    def __call__(self, sample, timestep, prompt):
        return self.rate * sample + self.drift * timestep / 1000 + prompt


class ToyGraphs:
    """The three graphs as the serving loop calls them; the decoder gives the latents back."""

    def __init__(self, model):
        self.model, self.rows, self.largest = model, [], 1.0

    async def prompt_encoder(self, revision, tokens):
        return tokens.input_ids[:, :1, None].astype(np.float32)

    async def video_denoiser(self, sample, timestep, hidden):
        self.rows.append(len(sample))
        outputs = [
            self.model(s, t, h[0, 0]) for s, t, h in zip(sample, timestep, hidden, strict=True)
        ]
        predicted = np.stack(outputs).astype(np.float32)
        self.largest = max(self.largest, np.abs(predicted).max(), np.abs(sample).max())
        return predicted

    async def vae_decoder(self, latents):
        return latents


def request(seed, steps, guidance_scale):
    values = {
        "num_inference_steps": steps,
        "guidance_scale": guidance_scale,
        "seed": seed,
        "num_frames": SHAPE[1],
        "height": SHAPE[2],
        "width": SHAPE[3],
    }
    texts = {"prompt": "a", "negative_prompt": "", "scheduler": "any", "acceleration": "none"}
    fields = {field.name: None for field in dataclasses.fields(GenerationRequest)}
    return GenerationRequest(**{**fields, **texts, **values})


BASE = Base(
    SCHEMA_VERSION,
    "toy",
    "sha256:0",
    Prompt(masks_padding=False, padding="read", cleans=False),
    Latents(channels=SHAPE[0], vae_scale=1),
    Defaults(*SHAPE[1:], 8, 4, 1.0, "any"),
    Limits((1, 9), (1, 9), (1, 9), 1, (1, 99), (0.0, 20.0), 8),
    ("any",),
    {},
)


def served(table, steps, seed, guidance_scale, model):
    graphs = ToyGraphs(model)
    tokens = Tokens(np.array([[0, 0], [1, 0]]), np.ones((2, 2), np.int64))
    plan = Plan(request(seed, steps, guidance_scale), Revision("p", 1, None), tokens, table)
    latents, _ = asyncio.run(generate(plan, graphs, BASE, lambda step: None))
    return latents, graphs


def wanted(scheduler, steps, seed, guidance_scale, model, num_noises):
    generator = np.random.Generator(np.random.PCG64(seed))
    drawn = generator.standard_normal((1 + num_noises, int(np.prod(SHAPE))), np.float32)
    latents, *noises = torch.from_numpy(drawn.astype(np.float64)).reshape(-1, 1, *SHAPE)

    def guided(sample, timestep):
        with_prompt = model(sample, timestep, 1.0)
        if guidance_scale <= 1:
            return with_prompt
        without = model(sample, timestep, 0.0)
        return without + guidance_scale * (with_prompt - without)

    return diffusers_loop(scheduler, steps, latents, noises, guided)[0].numpy()


def difference(scheduler, steps, seed, guidance_scale, model):
    """Between the two loops, over the largest number in either; None if the scheduler is refused.

    diffusers computes in single precision too, and divides by sqrt(alpha_bar).
    """
    try:
        table = sampler_table(scheduler, steps)
    except BaseFolderError:
        return None
    num_noises = 0 if table.noise is None else table.noise.shape[1]
    latents, graphs = served(table, steps, seed, guidance_scale, model)
    assert set(graphs.rows) == {2 if guidance_scale > 1 else 1}
    assert len(graphs.rows) == table.num_evaluations
    expected = wanted(scheduler, steps, seed, guidance_scale, model, num_noises)
    alpha_bar = getattr(scheduler, "alphas_cumprod", torch.ones(1)).numpy()
    weights = [np.abs(table.pred).max(), np.abs(table.initial).max(), 1.0]
    weights.append(alpha_bar[alpha_bar > 0].min() ** -0.5)
    return float(np.abs(latents - expected).max()) / (max(weights) * graphs.largest)


def diffusers_cannot(scheduler, steps, seed, model):
    """Whether diffusers' own loop raises, or leaves the finite numbers."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            latents = wanted(scheduler, steps, seed, 1.0, model, 0)
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
            return True
    return not np.isfinite(latents).all()


MODELS = st.builds(ToyModel, st.floats(-1, 1), st.floats(-1, 1))


@settings(max_examples=25, deadline=None)
@given(schedulers(), st.integers(1, 25), st.integers(0, 2**31), st.sampled_from([1.0, 7.5]), MODELS)
def test_the_served_loop_ends_where_that_of_diffusers_ends(scheduler, steps, seed, scale, model):
    if isinstance(scheduler, Exception):
        event("diffusers refuses the options")
        return
    found = difference(scheduler, steps, seed, scale, model)
    event("served" if found is not None else "refused")
    if found is None:
        assert diffusers_cannot(scheduler, steps, seed, model)
    else:
        assert found <= LARGEST_DIFFERENCE


@pytest.mark.parametrize("guidance_scale", [1.0, 7.5])
@pytest.mark.parametrize("steps", [4, 20])
@pytest.mark.parametrize("name", EVERY_CLASS)
def test_every_class_is_served(name, steps, guidance_scale):
    linear = {"clip_sample": False} if name in ("DDIMScheduler", "DDPMScheduler") else {}
    scheduler = made(name, **linear)
    found = difference(scheduler, steps, 3, guidance_scale, ToyModel(0.7, 0.3))
    assert found is not None
    assert found <= LARGEST_DIFFERENCE
