"""Leaving evaluations out: which steps, what stands for them, and that nothing else changes."""

import asyncio
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from text_to_video.acceleration import PACES, Pace, accelerated, evaluated_steps, forecasts
from text_to_video.sampler import SamplerTables, sample

SHAPE = (2, 1, 2, 2)
STEPS = st.integers(1, 50)
TABLE_STEPS = st.integers(1, 12)
ALL_PACES = st.builds(Pace, st.integers(1, 4), st.integers(1, 4))
SCHEDULERS = st.sampled_from(["DDIMScheduler", "EulerAncestralDiscreteScheduler"])


@pytest.fixture(scope="module")
def tables(fake_repository):
    return SamplerTables(fake_repository / "text_to_video" / "assets" / "samplers.safetensors")


def run(table, predict, seed=3):
    """The latents, and the model inputs with their timesteps."""
    seen = []

    async def predict_noise(model_input, timestep):
        seen.append((model_input.copy(), timestep))
        return predict(model_input, len(seen) - 1).astype(np.float32)

    return asyncio.run(sample(predict_noise, table, SHAPE, seed, lambda step: None)), seen


@given(scheduler=SCHEDULERS, steps=TABLE_STEPS)
def test_the_pace_of_every_step_is_the_same_table(tables, scheduler, steps):
    table = tables.table(scheduler, steps)
    same = accelerated(table, PACES["none"])
    for field in ("timesteps", "initial", "pred", "noise"):
        before, after = getattr(table, field), getattr(same, field)
        np.testing.assert_array_equal(before, after)
        assert (before is None) or before.dtype == after.dtype


@pytest.mark.parametrize(
    ("pace", "steps"),
    [
        ("none", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        ("balanced", [0, 1, 2, 3, 4, 6, 8, 10]),
        ("fast", [0, 2, 4, 6, 8, 10]),
    ],
)
def test_the_steps_of_a_run_of_twelve(pace, steps):
    assert evaluated_steps(PACES[pace], 12) == steps


@given(pace=ALL_PACES, num_steps=STEPS)
def test_the_first_step_is_kept_and_no_gap_is_wider_than_the_pace(pace, num_steps):
    steps = evaluated_steps(pace, num_steps)
    assert steps[0] == 0
    assert {b - a for a, b in pairwise(steps)} <= {pace.early, pace.late}
    assert num_steps - max(pace.early, pace.late) <= steps[-1] < num_steps


@given(num_steps=st.integers(3, 50))
def test_each_pace_evaluates_less_than_the_one_before(num_steps):
    counts = [len(evaluated_steps(PACES[name], num_steps)) for name in PACES]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == num_steps > counts[1]


@given(pace=ALL_PACES, num_steps=STEPS, slope=st.floats(-9, 9), start=st.floats(-9, 9))
def test_what_is_linear_in_the_step_is_forecast_exactly(pace, num_steps, slope, start):
    evaluated = evaluated_steps(pace, num_steps)
    line = start + slope * np.arange(num_steps)
    forecast = forecasts(evaluated, num_steps) @ line[evaluated]
    known = evaluated[1] if len(evaluated) > 1 else num_steps  # one point is no line yet
    np.testing.assert_allclose(forecast[known:], line[known:], atol=1e-9)
    np.testing.assert_array_equal(forecast[:known], start)


@given(pace=ALL_PACES, num_steps=STEPS)
def test_a_forecast_knows_the_past_alone(pace, num_steps):
    evaluated = evaluated_steps(pace, num_steps)
    weights = forecasts(evaluated, num_steps)
    future = np.array(evaluated)[None, :] > np.arange(num_steps)[:, None]
    assert not weights[future].any()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    np.testing.assert_array_equal(weights[evaluated], np.eye(len(evaluated)))


@given(scheduler=SCHEDULERS, steps=TABLE_STEPS, pace=ALL_PACES)
def test_a_model_that_always_says_the_same_gives_the_same_clip(tables, scheduler, steps, pace):
    table = tables.table(scheduler, steps)
    constant = np.linspace(-1, 1, int(np.prod(SHAPE))).reshape(SHAPE)
    whole, _ = run(table, lambda model_input, call: constant)
    fewer, _ = run(accelerated(table, pace), lambda model_input, call: constant)
    np.testing.assert_allclose(fewer, whole, rtol=1e-3, atol=1e-3)


@given(scheduler=SCHEDULERS, steps=TABLE_STEPS, pace=ALL_PACES)
def test_the_folded_table_is_the_long_way_round(tables, scheduler, steps, pace):
    """Against the whole table run step by step, forecasts put in by hand."""
    table = tables.table(scheduler, steps)
    evaluated = evaluated_steps(pace, steps)
    weights = forecasts(evaluated, steps)
    computed = []

    def model(model_input):
        computed.append(0.5 * model_input + 0.1)
        return computed[-1]

    def forecast_or_model(model_input, step):
        if step in evaluated:
            return model(model_input)
        return sum(weights[step, i] * known for i, known in enumerate(computed))

    whole, long_way = run(table, forecast_or_model)
    computed.clear()
    fewer, short_way = run(accelerated(table, pace), lambda model_input, call: model(model_input))
    np.testing.assert_allclose(fewer, whole, rtol=1e-3, atol=1e-3)
    assert len(short_way) == len(evaluated)
    for step, (model_input, timestep) in zip(evaluated, short_way, strict=True):
        assert timestep == long_way[step][1]
        np.testing.assert_allclose(model_input, long_way[step][0], rtol=1e-3, atol=1e-3)
