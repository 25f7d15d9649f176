"""Sampler tables against diffusers' own loop, for every offered scheduler and prediction type."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from unsee.core.errors import NotExportable
from unsee.export.text_to_video.sampler_table import (
    OFFERED,
    offered_schedulers,
    sampler_table,
    sampler_tables,
    table_tensors,
)

SIZE = 6
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
# diffusers' EulerAncestralDiscreteScheduler has no prediction type "sample"
OFFERED_NOWHERE = {("EulerAncestralDiscreteScheduler", "sample")}


@functools.cache
def base_scheduler(prediction_type: str) -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        prediction_type=prediction_type,
        rescale_betas_zero_snr=prediction_type == "v_prediction",
        timestep_spacing="trailing" if prediction_type == "v_prediction" else "leading",
    )


def linear_model(sample, timestep, rate, bias):
    return rate * sample + bias * (timestep / 1000 + 1)


def diffusers_loop(scheduler, steps, noise, seed, rate, bias):
    """The loop of diffusers' pipelines, on float64 latents of one element per channel."""
    generator = torch.Generator().manual_seed(seed)
    scheduler.set_timesteps(steps)
    latents = noise * scheduler.init_noise_sigma
    takes_generator = "generator" in scheduler.step.__code__.co_varnames
    extra = {"generator": generator} if takes_generator else {}
    for timestep in scheduler.timesteps:
        model_input = scheduler.scale_model_input(latents, timestep)
        prediction = linear_model(model_input, float(timestep), rate, bias)
        latents = scheduler.step(prediction, timestep, latents, **extra).prev_sample
    return latents.numpy().ravel()


def table_loop(table, noise, seed, rate, bias):
    """The dense form: each model input and the result as sums over noise and predictions."""
    generator = torch.Generator().manual_seed(seed)
    x0 = noise.numpy().ravel()
    count = len(table.timesteps)
    predictions, injected = np.zeros((count, SIZE)), np.zeros((count, SIZE))
    for k in range(count + 1):
        latents = table.initial[k] * x0 + table.pred[k] @ predictions
        if table.noise is not None:
            latents = latents + table.noise[k] @ injected
        if k < count:
            predictions[k] = linear_model(latents, float(table.timesteps[k]), rate, bias)
            draw = torch.randn(noise.shape, generator=generator, dtype=noise.dtype)
            injected[k] = draw.numpy().ravel()
    return latents


def agree(name, prediction_type, steps, seed, rate, bias):
    scheduler = offered_schedulers(base_scheduler(prediction_type))[name]
    table = sampler_table(scheduler, steps)
    generator = torch.Generator().manual_seed(seed + 1)
    noise = torch.randn(1, SIZE, 1, 1, generator=generator, dtype=torch.float64)
    expected = diffusers_loop(scheduler, steps, noise, seed, rate, bias)
    actual = table_loop(table, noise, seed, rate, bias)
    assert np.abs(actual - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("name", OFFERED)
def test_table_does_what_diffusers_does(name, prediction_type, steps):
    if (name, prediction_type) in OFFERED_NOWHERE:
        pytest.skip("not in diffusers")
    agree(name, prediction_type, steps, seed=3, rate=0.7, bias=0.3)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([(n, p) for n in OFFERED for p in PREDICTION_TYPES]).filter(
        lambda pair: pair not in OFFERED_NOWHERE
    ),
    st.integers(1, 30),
    st.integers(0, 2**31),
    st.floats(-1, 1),
    st.floats(-1, 1),
)
def test_table_does_what_diffusers_does_for_any_linear_model(pair, steps, seed, rate, bias):
    agree(*pair, steps, seed, rate, bias)


def test_rows_look_only_at_what_is_already_known():
    table = sampler_table(offered_schedulers(base_scheduler("epsilon"))["DDPMScheduler"], 7)
    for k in range(8):
        assert not table.pred[k, k:].any()
        assert not table.noise[k, k:].any()
    assert table.initial[0] == pytest.approx(1.0)


def test_only_schedulers_that_inject_noise_have_a_noise_part():
    tensors = table_tensors(sampler_tables(base_scheduler("v_prediction"), 3))
    assert "DDPMScheduler/3/noise" in tensors
    assert "DDIMScheduler/3/noise" not in tensors
    assert tensors["DDIMScheduler/3/initial"].shape == (4,)
    assert tensors["DDIMScheduler/3/pred"].shape == (4, 3)
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype("float32")}


def test_a_scheduler_that_diffusers_refuses_is_not_offered():
    tables = sampler_tables(base_scheduler("sample"), 2)
    assert "EulerAncestralDiscreteScheduler" not in tables
    assert "DDIMScheduler" in tables


def test_steps_that_leave_the_finite_numbers_are_not_offered():
    config = {**base_scheduler("epsilon").config, "rescale_betas_zero_snr": True}
    scheduler = DDIMScheduler.from_config({**config, "timestep_spacing": "trailing"})
    with pytest.raises(NotExportable, match="at 2 steps gives a value that is not finite"):
        sampler_table(scheduler, 2)
    assert "DDIMScheduler" not in sampler_tables(scheduler, 2)


@pytest.mark.parametrize("option", ["thresholding", "clip_sample"])
def test_non_linear_options_are_refused_by_name(option):
    config = {**base_scheduler("epsilon").config, "_use_default_values": [], option: True}
    scheduler = DDIMScheduler.from_config(config)
    with pytest.raises(NotExportable, match=f"has {option} on.*set {option} to false"):
        sampler_tables(scheduler, 2)
    with pytest.raises(NotExportable, match=option):
        sampler_table(scheduler, 2)


def test_a_base_that_never_heard_of_clipping_is_not_clipped():
    schedulers = offered_schedulers(EulerDiscreteScheduler())
    assert not schedulers["DDIMScheduler"].config.clip_sample
    assert not schedulers["DDPMScheduler"].config.clip_sample
