"""Pictures and clips from the exported base, through diffusers' own pipelines."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers import (
    DiffusionPipeline,
    StableDiffusionPipeline,
    TextToVideoSDPipeline,
    WanPipeline,
)

from unsee.models.base import load_base
from unsee.models.pipelines.wan_padding import leave_out_padding
from unsee.models.spec import ClipDefaults
from unsee.playground.networks.mixed_precision import use_fast_products
from unsee.playground.networks.wan import CLIP
from unsee.playground.training.program import user_path
from unsee.playground.training.train_data import BASE_DIR
from unsee.playground.world.world import FRAME_SIZE, NUM_FRAMES

Clips = npt.NDArray[np.uint8]


@cache
def clip_defaults(base_dir: Path = BASE_DIR) -> ClipDefaults:
    """Frames, steps and guidance as ``base.yaml`` gives them; Wan's have defaults without it."""
    if is_wan(base_dir) and not (base_dir / "base.yaml").exists():
        return CLIP
    return load_base(base_dir).spec.clip


def is_wan(base_dir: Path) -> bool:
    """Whether the base's video model is a WanPipeline."""
    index = base_dir / "t2v" / "model_index.json"
    return index.exists() and json.loads(index.read_text())["_class_name"] == "WanPipeline"


def load_pipeline(folder: Path) -> Any:
    """The pipeline in ``folder``, of whichever class its model index names."""
    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_stills_pipeline(base_dir: Path) -> Any:
    """What makes the base's stills: its ``t2i`` folder, or the video model at one frame."""
    folder = base_dir / "t2i"
    return load_pipeline(folder if folder.exists() else base_dir / "t2v")


def make_fast(pipeline: Any) -> None:
    """Compiles the denoiser, with products in bfloat16 if that pays here, for many batches of one
    size. Of Wan's pipeline the blocks are compiled, and prompts are not padded."""
    if isinstance(pipeline, WanPipeline):
        leave_out_padding(pipeline.transformer)
        use_fast_products(pipeline.transformer)
        pipeline.transformer.compile_repeated_blocks(dynamic=False)
        return
    use_fast_products(pipeline.unet)
    pipeline.unet.compile(dynamic=False)


def add_base_arguments(parser: argparse.ArgumentParser) -> None:
    """Which base is asked, and how; `with_base_defaults` fills in what is left out."""
    parser.add_argument("--base-dir", type=user_path, default=BASE_DIR)
    parser.add_argument("--steps", type=int, help="of the sampler (default: the base's)")
    parser.add_argument("--guidance", type=float, help="default: the base's")


def with_base_defaults(args: argparse.Namespace) -> argparse.Namespace:
    defaults = clip_defaults(args.base_dir)
    args.steps = args.steps or defaults.num_inference_steps
    args.guidance = defaults.guidance_scale if args.guidance is None else args.guidance
    return args


def generate_stills(
    pipeline: StableDiffusionPipeline | WanPipeline,
    prompts: Sequence[str],
    seeds: Sequence[int],
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
) -> Clips:
    """uint8 [N, 1, 64, 64, 3]; each prompt has a seed of its own."""
    if isinstance(pipeline, WanPipeline):
        return generate_clips(pipeline, prompts, seeds, 1, num_inference_steps, guidance_scale)
    options = _options(prompts, seeds, num_inference_steps, guidance_scale)
    return _to_uint8(pipeline(**options).images)[:, None]


def generate_clips(
    pipeline: TextToVideoSDPipeline | WanPipeline,
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
