"""Sampling with a table: the right sums, the right noises, and a clean stop."""

import asyncio

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from text_to_video.refusal import Refusal
from text_to_video.sampler import SamplerTables, sample

SHAPE = (4, 2, 3, 3)
STEPS = 5


@pytest.fixture(scope="module")
def path(fake_repository):
    return fake_repository / "text_to_video" / "assets" / "samplers.safetensors"


def run(table, seed=3, after_step=lambda step: None):
    seen = []

    async def predict_noise(model_input, timestep):
        seen.append((model_input.copy(), timestep))
        return 0.5 * model_input + 1e-3 * timestep

    return asyncio.run(sample(predict_noise, table, SHAPE, seed, after_step)), seen


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "EulerAncestralDiscreteScheduler"])
def test_sampling_is_the_sum_that_the_table_spells_out(path, scheduler):
    latents, seen = run(SamplerTables(path).table(scheduler, STEPS))
    tensors = {
        name.rsplit("/", 1)[1]: values.astype(np.float64)
        for name, values in load_file(path).items()
        if name.startswith(f"{scheduler}/{STEPS}/")
    }
    generator = np.random.Generator(np.random.PCG64(3))
    noises = [generator.standard_normal(SHAPE, np.float32)]
    predictions = []
    for k in range(STEPS + 1):
        wanted = tensors["initial"][k] * noises[0]
        wanted = wanted + sum(tensors["pred"][k, j] * p for j, p in enumerate(predictions))
        if "noise" in tensors:
            wanted = wanted + sum(tensors["noise"][k, j] * n for j, n in enumerate(noises[1:]))
            noises.append(generator.standard_normal(SHAPE, np.float32))
        model_input = latents if k == STEPS else seen[k][0]
        np.testing.assert_allclose(model_input, wanted, rtol=1e-4, atol=1e-5)
        if k < STEPS:
            assert seen[k][1] == tensors["timesteps"][k]
            predictions.append(0.5 * wanted + 1e-3 * tensors["timesteps"][k])


def test_the_seed_alone_decides(path):
    table = SamplerTables(path).table("EulerAncestralDiscreteScheduler", STEPS)
    first, again, other = (run(table, seed)[0] for seed in (3, 3, 4))
    assert first.tobytes() == again.tobytes() != other.tobytes()
    assert first.shape == SHAPE
    assert first.dtype == np.float32


def test_after_step_may_stop_the_sampling(path):
    steps = []

    def stop_at_two(step):
        steps.append(step)
        if step == 2:
            raise Refusal("CANCELLED", "stop")

    with pytest.raises(Refusal, match="stop"):
        run(SamplerTables(path).table("DDIMScheduler", STEPS), after_step=stop_at_two)
    assert steps == [1, 2]


def test_a_number_of_steps_that_is_not_offered_is_refused_with_those_that_are(tmp_path):
    part = np.zeros(1, np.float32)
    names = [f"DDIMScheduler/{steps}/timesteps" for steps in (1, 2, 3, 5)]
    save_file(dict.fromkeys(names, part), tmp_path / "samplers.safetensors")
    with pytest.raises(Refusal, match="it offers 1-3, 5") as caught:
        SamplerTables(tmp_path / "samplers.safetensors").table("DDIMScheduler", 4)
    assert caught.value.status == "INVALID_ARGUMENT"
