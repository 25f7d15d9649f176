"""Serving ends where diffusers' own pipeline ends, with which clips are evaluated."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import torch
from diffusers import TextToVideoSDPipeline

from scheduler_fakes import GivenNoise
from text_to_video.generation import guide
from text_to_video.sampler import sample
from unsee.models.quiet import quiet_libraries
from unsee.models.sampling.options import fresh, with_overrides
from unsee.models.sampling.unit_impulses import sampler_table

SHAPE, STEPS, SEED = (4, 2, 8, 8), 4, 5
SCHEDULERS = [
    {"class": "PNDMScheduler", "skip_prk_steps": True},
    {"class": "LCMScheduler"},
    {"class": "TCDScheduler"},
    {"class": "EulerAncestralDiscreteScheduler"},
    {"class": "HeunDiscreteScheduler"},
    {"class": "FlowMatchEulerDiscreteScheduler", "shift": 3.0},
]


@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
@pytest.mark.parametrize("options", SCHEDULERS, ids=lambda options: options["class"])
def test_the_served_loop_ends_where_the_pipeline_ends(tiny_base, options, guidance_scale):
    base, unet = tiny_base, tiny_base.t2v_denoiser()
    scheduler = with_overrides(base.t2v_scheduler(), options, base.name, "schedulers.t2v")
    hidden = torch.randn(2, 48, 32, generator=torch.Generator().manual_seed(1))
    table = sampler_table(scheduler, STEPS)

    async def predict_noise(model_input, timestep):
        rows = hidden if guidance_scale > 1 else hidden[1:]
        latents = torch.from_numpy(model_input).expand(len(rows), *SHAPE)
        with torch.no_grad():
            predicted = unet(latents, torch.full((len(rows),), timestep), rows).sample
        return guide(predicted.numpy(), guidance_scale)

    served = asyncio.run(sample(predict_noise, table, SHAPE, SEED, lambda step: None))

    generator = np.random.Generator(np.random.PCG64(SEED))
    num_noises = 0 if table.noise is None else table.noise.shape[1]
    drawn = generator.standard_normal((1 + num_noises, int(np.prod(SHAPE))), np.float32)
    latents, *noises = torch.from_numpy(drawn).reshape(-1, 1, *SHAPE)
    frames_first = [noise[0].transpose(0, 1) for noise in noises]  # as the pipeline steps
    with quiet_libraries():
        pipeline = TextToVideoSDPipeline(
            vae=base.t2v_vae(),
            text_encoder=base.text_encoder(),
            tokenizer=base.tokenizer(),
            unet=unet,
            scheduler=fresh(scheduler),
        )
        pipeline.set_progress_bar_config(disable=True)
        with GivenNoise(frames_first):
            expected = pipeline(
                prompt_embeds=hidden[1:],
                negative_prompt_embeds=hidden[:1],
                latents=latents,
                num_frames=SHAPE[1],
                height=64,
                width=64,
                num_inference_steps=STEPS,
                guidance_scale=guidance_scale,
                output_type="latent",
            ).frames
    difference = np.abs(served - expected[0].numpy()).max()
    assert difference <= 1e-4 * float(expected.std())
