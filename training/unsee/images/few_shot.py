"""The few images of a concept that unlearning starts from, made by the base itself."""

from collections.abc import Callable
from itertools import cycle, islice

import numpy as np
import torch
from PIL import Image

from unsee.core.errors import InputError
from unsee.core.policy import Concept
from unsee.models.base import Base
from unsee.models.generative import open_model
from unsee.models.pipelines.model import Sampling
from unsee.models.work import Work
from unsee.prompts.encoding import encode_ids
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
    progress: Callable[[int, int], None] | None = None,
) -> list[Image.Image]:
    """Return `shots` RGB images of `concept` in the size of the model that makes pictures.

    Each image has its own prompt (see `few_shot_prompts`) and its own random generator, so image k
    does not depend on how many are asked for. Guidance is that of the base's clips, and steps by
    default. `progress(step, total)` counts denoising steps over all images. Raises `InputError`
    like `few_shot_prompts`.
    """
    prompts = few_shot_prompts(base, concept, shots)
    steps = num_inference_steps or base.spec.clip.num_inference_steps
    model = open_model(base, "image")
    sampling = Sampling(1, *model.picture_size, steps, base.spec.clip.guidance_scale)
    frame = base.prompt_frame("image")
    rows = fitting_prompts(base, prompts)
    embeds = {text: _embeds(base, frame.padded(ids)) for text, ids in rows.items()}
    negative = _embeds(base, frame.framed(()))
    images = []
    for shot, prompt in enumerate(prompts):
        on_step = _counted(progress, shot, shots)
        frames = model.sample(sampling, embeds[prompt], negative, [_generator(seed, shot)], on_step)
        images.append(Image.fromarray((frames[0, 0] * 255).round().astype(np.uint8)))
    return images


@torch.no_grad()
def _embeds(base: Base, row: list[int]) -> torch.Tensor:
    encoder = base.text_encoder()
    return encode_ids(encoder, torch.tensor([row], device=encoder.device))


def images_work(base: Base, shots: int) -> Work:
    """What `generate_few_shot_images` does for `shots` images in the base's own settings."""
    clip = base.spec.clip
    rows = shots * (2 if clip.guidance_scale > 1 else 1)
    steps = shots * clip.num_inference_steps
    return Work(steps=steps, denoised=rows * clip.num_inference_steps, encoded=rows)


def _generator(seed: int, shot: int) -> torch.Generator:
    state = np.random.SeedSequence([seed, shot]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]) >> 1)


def _counted(
    progress: Callable[[int, int], None] | None, shot: int, shots: int
) -> Callable[[int, int], None] | None:
    """`progress` over the steps of all images, as it is called in the image `shot`."""
    if progress is None:
        return None
    report = progress
    return lambda step, total: report(shot * total + step, shots * total)
