"""The bases that are measured, and their exports: the embedded ones and larger ones of their kinds.

The exports come from the code of `unsee export` and lie in a folder of their own, where they are
found again.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measuring.published import write_wan_base
from benchmarks.measuring.real_size import VIDEO_SIZES, write_video_base
from unsee.core.files import new_folder
from unsee.export.engines.engine import ONNXRUNTIME
from unsee.export.engines.record import EngineSelection
from unsee.models.base import load_base

ROOT = Path(__file__).parents[2]
BASES_DIR = ROOT / "bases"
PLAYGROUND_DIR = BASES_DIR / "playground"
CACHE_DIR = ROOT / "build" / "benchmarks"

PLAYGROUND_WAN, MIDDLE, MIDDLE_WAN = "playground-wan", "middle", "middle-wan"
_WAN_TRANSFORMER = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 8,
    "attention_head_dim": 64,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 512,
    "freq_dim": 256,
    "ffn_dim": 2048,
    "num_layers": 14,
}
_WAN_ENCODER = {"num_heads": 8, "d_kv": 64, "d_ff": 1024}
_WAN_VAE = {"base_dim": 32, "num_res_blocks": 1}
_WAN_CLIP: dict[str, Any] = {"num_frames": 17, "height": 128, "width": 128, "fps": 8}
_WAN_CLIP |= {"num_inference_steps": 16, "guidance_scale": 5.0}
_WAN_LIMITS: dict[str, Any] = {"num_frames": 17, "height": [128, 128], "width": [128, 128]}
_WAN_LIMITS |= {"num_inference_steps": 50, "guidance_scale": 20.0}
_WAN_SPEC = {"name": MIDDLE_WAN, "t2v": "t2v", "clip": _WAN_CLIP, "limits": _WAN_LIMITS}

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Exported:
    """A base and its model repository."""

    base_dir: Path
    repository_dir: Path


def embedded(name: str, cache_dir: Path, progress: Progress) -> Exported:
    """An embedded base, served by what its export measures to be best here."""
    return _exported(BASES_DIR / name, cache_dir, progress, EngineSelection())


def middle(cache_dir: Path, progress: Progress) -> Exported:
    """A base with a video denoiser of 59 M parameters and random weights."""
    facts = VIDEO_SIZES[MIDDLE]
    return _random(MIDDLE, facts, lambda at: write_video_base(at, MIDDLE), cache_dir, progress)


def middle_wan(cache_dir: Path, progress: Progress) -> Exported:
    """A base of Wan's classes with a transformer of 60 M parameters and random weights."""
    facts = (_WAN_TRANSFORMER, _WAN_ENCODER, _WAN_VAE, _WAN_SPEC)
    return _random(MIDDLE_WAN, facts, lambda at: write_wan_base(at, *facts), cache_dir, progress)


BASES: dict[str, Callable[[Path, Progress], Exported]] = {
    "playground": partial(embedded, "playground"),
    MIDDLE: middle,
    PLAYGROUND_WAN: partial(embedded, PLAYGROUND_WAN),
    MIDDLE_WAN: middle_wan,
}


def _random(
    name: str, facts: object, write: Callable[[Path], None], cache_dir: Path, progress: Progress
) -> Exported:
    """A base of random weights, written once; `facts` are what it is made of.

    Nothing is measured at its export: frames of random weights say nothing of what the eye sees.
    """
    digest = hashlib.sha256(repr(facts).encode()).hexdigest()[:12]
    base_dir = cache_dir / f"{name}-base-{digest}"
    if not base_dir.exists():
        progress(f"writing the base {name}")
        with new_folder(base_dir) as folder:
            write(folder)
    return _exported(base_dir, cache_dir, progress, EngineSelection(engine=ONNXRUNTIME.name))


def _exported(
    base_dir: Path, cache_dir: Path, progress: Progress, selection: EngineSelection
) -> Exported:
    from unsee.export.build import write_repository

    base = load_base(base_dir)
    repository_dir = cache_dir / f"{base.name}-{base.digest().removeprefix('sha256:')[:12]}"
    write_repository(base, repository_dir, progress, selection)
    return Exported(base_dir, repository_dir)


def export_base(name: str, cache_dir: Path) -> Exported:
    """The base of this name, exported below `cache_dir`; says on the terminal what it does."""
    return BASES[name](cache_dir, lambda line: print(f"{line} …", file=sys.stderr, flush=True))
