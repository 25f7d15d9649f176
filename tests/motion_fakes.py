"""A tiny AnimateDiff base: the tiny base's image model and a motion adapter, random weights."""

from pathlib import Path
from typing import Any

import torch
import yaml
from diffusers import MotionAdapter

from fakes import alive

MAX_FRAMES = 8


def tiny_adapter(**config: Any) -> MotionAdapter:
    """A random `MotionAdapter` for the tiny base's image UNet, no tensor of it zero."""
    small = {
        "block_out_channels": (16, 32),
        "motion_layers_per_block": 1,
        "motion_norm_num_groups": 8,
        "motion_num_attention_heads": 2,
        "motion_max_seq_length": MAX_FRAMES,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return alive(MotionAdapter(**{**small, **config}))


def write_motion_base(base_dir: Path, folder: Path) -> Path:
    """Write a base into `folder` whose video model is the image model of the base in `base_dir`
    with a motion adapter, and return `folder`."""
    tiny_adapter().save_pretrained(folder / "adapter")
    content = yaml.safe_load((base_dir / "base.yaml").read_text())
    content |= {"t2i": str(base_dir / "t2i"), "t2v": str(base_dir / "t2i")}
    (folder / "base.yaml").write_text(yaml.safe_dump(content | {"motion_adapter": "adapter"}))
    return folder
