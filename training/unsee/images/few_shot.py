"""The few images of a concept that unlearning starts from, made by the base itself."""

from collections.abc import Callable
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch
from PIL import Image

from unsee.core.errors import InputError
from unsee.core.policy import Concept
from unsee.models.base import Base
from unsee.models.quiet import quiet_libraries
from unsee.models.sampling.options import fresh
from unsee.models.work import Work
from unsee.prompts.templates import prompts_around
from unsee.prompts.tokens import fitting_prompts


def few_shot_prompts(base: Base, concept: Concept, shots: int) -> tuple[str, ...]:
    """The prompts of `shots` images: those around the concept's name in turn, plainest first.

    Raises `InputError` if `shots` < 1 or no prompt fits the base's tokenizer.
    """
    if shots < 1:
        raise InputError(f"shots is {shots}; at least 1 image of the concept is needed")
    around = prompts_around(concept.name, concept.category)
    return tuple(islice(cycle(fitting_prompts(base, around)), shots))


def generate_few_shot_images(
    base: Base,
    concept: Concept,
    shots: int,
    seed: int,
    *,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Image.Image]:
    """Return `shots` RGB images of `concept` in the text-to-image model's own size.

    Each image has its own prompt (see `few_shot_prompts`) and its own random generator, so image k
    does not depend on how many are asked for. Steps and guidance default to the base's clip
    settings. `progress(step, total)` counts denoising steps over all images. Raises `InputError`
    like `few_shot_prompts`.
    """
    prompts = few_shot_prompts(base, concept, shots)
    steps = num_inference_steps or base.spec.clip.num_inference_steps
    scale = base.spec.clip.guidance_scale if guidance_scale is None else guidance_scale
    images: list[Image.Image] = []
    with quiet_libraries():
        pipeline = t2i_pipeline(base)
        for shot, prompt in enumerate(prompts):
            images += pipeline(
                prompt,
                num_inference_steps=steps,
                guidance_scale=scale,
                generator=_generator(seed, shot),
                callback_on_step_end=_step_callback(progress, shot, shots),
            ).images
    return images


def images_work(base: Base, shots: int) -> Work:
    """What `generate_few_shot_images` does for `shots` images in the base's own settings."""
    clip = base.spec.clip
    rows = shots * (2 if clip.guidance_scale > 1 else 1)
    steps = shots * clip.num_inference_steps
    return Work(steps=steps, denoised=rows * clip.num_inference_steps, encoded=rows)


def t2i_pipeline(base: Base) -> Any:
    """The base's text-to-image model as a `StableDiffusionPipeline`, without a progress bar."""
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline(
        vae=base.vae(),
        text_encoder=base.text_encoder(),
        tokenizer=base.tokenizer("image"),
        unet=base.unet(),
        scheduler=fresh(base.t2i_scheduler()),  # the pipeline edits its own
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _generator(seed: int, shot: int) -> torch.Generator:
    state = np.random.SeedSequence([seed, shot]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]) >> 1)


def _step_callback(
    progress: Callable[[int, int], None] | None, shot: int, shots: int
) -> Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]:
    def on_step_end(
        pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        if progress is not None:
            progress(shot * pipeline.num_timesteps + step + 1, shots * pipeline.num_timesteps)
        return tensors

    return on_step_end
