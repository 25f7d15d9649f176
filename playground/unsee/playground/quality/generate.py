"""Pictures and clips from the exported base, through diffusers' own pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers import StableDiffusionPipeline, TextToVideoSDPipeline

from unsee.models.base import ClipDefaults, load_base
from unsee.playground.networks.mixed_precision import use_mixed_precision
from unsee.playground.training.train_data import BASE_DIR
from unsee.playground.world.world import FRAME_SIZE, NUM_FRAMES

Clips = npt.NDArray[np.uint8]


@cache
def clip_defaults() -> ClipDefaults:
    """Frames, steps and guidance as ``base.yaml`` gives them."""
    return load_base(BASE_DIR).spec.clip


def load_t2i(folder: Path) -> StableDiffusionPipeline:
    return quiet(StableDiffusionPipeline.from_pretrained(folder))


def load_t2v(folder: Path) -> TextToVideoSDPipeline:
    return quiet(TextToVideoSDPipeline.from_pretrained(folder))


def quiet(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def make_fast(pipeline: Any) -> None:
    """Compiles the denoiser, with products in bfloat16, for many batches of one size."""
    use_mixed_precision(pipeline.unet)
    pipeline.unet.compile(dynamic=False)


def generate_stills(
    pipeline: StableDiffusionPipeline,
    prompts: Sequence[str],
    seeds: Sequence[int],
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
) -> Clips:
    """uint8 [N, 1, 64, 64, 3]; each prompt has a seed of its own."""
    options = _options(prompts, seeds, num_inference_steps, guidance_scale)
    return _to_uint8(pipeline(**options).images)[:, None]


def generate_clips(
    pipeline: TextToVideoSDPipeline,
    prompts: Sequence[str],
    seeds: Sequence[int],
    num_frames: int = NUM_FRAMES,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
) -> Clips:
    """uint8 [N, F, 64, 64, 3]; each prompt has a seed of its own."""
    options = _options(prompts, seeds, num_inference_steps, guidance_scale)
    return _to_uint8(pipeline(num_frames=num_frames, **options).frames)


def _options(
    prompts: Sequence[str], seeds: Sequence[int], steps: int | None, guidance: float | None
) -> dict[str, Any]:
    defaults = clip_defaults()
    return {
        "prompt": list(prompts),
        "height": FRAME_SIZE,
        "width": FRAME_SIZE,
        "num_inference_steps": steps or defaults.num_inference_steps,
        "guidance_scale": defaults.guidance_scale if guidance is None else guidance,
        "generator": [torch.Generator().manual_seed(seed) for seed in seeds],
        "output_type": "np",
    }


def _to_uint8(frames: npt.NDArray[np.float32]) -> Clips:
    return (np.clip(frames, 0, 1) * 255 + 0.5).astype(np.uint8)
