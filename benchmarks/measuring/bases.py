"""The bases that are measured, and their exports: the embedded one, and one five times its size.

The exports come from the code of `unsee export` and lie in a folder of their own, where they are
found again. Knows no engine.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.measuring import real_size
from unsee.core.files import new_folder
from unsee.export.engines.engine import ONNXRUNTIME
from unsee.export.engines.record import EngineSelection
from unsee.models.base import load_base
from unsee.models.quiet import quiet_libraries

ROOT = Path(__file__).parents[2]
PLAYGROUND_DIR = ROOT / "bases" / "playground"
CACHE_DIR = ROOT / "build" / "benchmarks"

MIDDLE_UNET: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (64, 128, 256, 256),
    "layers_per_block": 2,
    "cross_attention_dim": 512,
    "attention_head_dim": 32,
}
_MIDDLE_TOKENS = 77
_MIDDLE_TEXT_ENCODER = {
    "hidden_size": MIDDLE_UNET["cross_attention_dim"],
    "intermediate_size": 2048,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
}
_MIDDLE_VAE = {
    "block_out_channels": (32, 64, 64, 64),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 1,
    "latent_channels": MIDDLE_UNET["in_channels"],
    "scaling_factor": 0.18215,
}
_MIDDLE_PIXELS = 256
_MIDDLE_SPEC = {
    "name": "middle",
    "t2i": "model",
    "t2v": "model",
    "clip": {
        "num_frames": 16,
        "height": _MIDDLE_PIXELS,
        "width": _MIDDLE_PIXELS,
        "fps": 8,
        "num_inference_steps": 2,
        "guidance_scale": 3.5,
    },
    "limits": {
        "num_frames": 32,
        "height": [64, 512],
        "width": [64, 512],
        "num_inference_steps": 50,
        "guidance_scale": 20.0,
    },
}
_ZERO_STD = 0.02


@dataclass(frozen=True)
class Exported:
    """A base and its model repository."""

    base_dir: Path
    repository_dir: Path


def playground(cache_dir: Path, progress: Callable[[str], None]) -> Exported:
    """The embedded base, served by what its export measures to be best here."""
    return _exported(PLAYGROUND_DIR, cache_dir, progress, EngineSelection())


def middle(cache_dir: Path, progress: Callable[[str], None]) -> Exported:
    """A base with a video UNet of 59 M parameters and random weights.

    Nothing is measured at its export: frames of random weights say nothing of what the eye sees.
    """
    facts = repr((MIDDLE_UNET, _MIDDLE_TEXT_ENCODER, _MIDDLE_VAE, _MIDDLE_SPEC))
    base_dir = cache_dir / f"middle-base-{hashlib.sha256(facts.encode()).hexdigest()[:12]}"
    if not base_dir.exists():
        progress("writing the base of middle size")
        with new_folder(base_dir) as folder:
            write_middle_base(folder)
    return _exported(base_dir, cache_dir, progress, EngineSelection(engine=ONNXRUNTIME.name))


BASES: dict[str, Callable[[Path, Callable[[str], None]], Exported]] = {
    "playground": playground,
    "middle": middle,
}


def write_middle_base(folder: Path) -> None:
    """Write a base with random float32 weights, none of which is zero, into `folder`.

    The tokenizer and the noise schedule are those of the embedded base.
    """
    import torch
    from diffusers import UNet3DConditionModel

    torch.manual_seed(0)
    embedded, model = load_base(PLAYGROUND_DIR), folder / "model"
    tokenizer = embedded.tokenizer()
    tokenizer.model_max_length = _MIDDLE_TOKENS
    size = real_size.Size(
        text_encoder=_MIDDLE_TEXT_ENCODER,
        unet={},
        vae=_MIDDLE_VAE,
        prediction_type="v_prediction",
        vocabulary=len(tokenizer),
        tokens=_MIDDLE_TOKENS,
    )
    unet = UNet3DConditionModel(sample_size=_MIDDLE_PIXELS // 8, **MIDDLE_UNET).eval()
    vae = real_size.vae(size, _MIDDLE_PIXELS)
    for part in (unet, vae):
        _fill_zeros(part)
    with quiet_libraries():
        tokenizer.save_pretrained(model / "tokenizer")
        embedded.t2v_scheduler().save_pretrained(model / "scheduler")
        real_size.text_encoder(size, tokenizer).save_pretrained(model / "text_encoder")
        unet.save_pretrained(model / "unet")
        vae.save_pretrained(model / "vae")
    shutil.copy(PLAYGROUND_DIR / "t2v" / "model_index.json", model)
    (folder / "base.yaml").write_text(yaml.safe_dump(_MIDDLE_SPEC, sort_keys=False))


def _fill_zeros(model: Any) -> None:
    """Nothing is multiplied by zero: an engine that lost a branch would show an error."""
    import torch

    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=_ZERO_STD)


def _exported(
    base_dir: Path, cache_dir: Path, progress: Callable[[str], None], selection: EngineSelection
) -> Exported:
    from unsee.export.build import write_repository

    base = load_base(base_dir)
    repository_dir = cache_dir / f"{base.name}-{base.digest().removeprefix('sha256:')[:12]}"
    write_repository(base, repository_dir, progress, selection)
    return Exported(base_dir, repository_dir)


def export_base(name: str, cache_dir: Path) -> Exported:
    """The base of this name, exported below `cache_dir`; says on the terminal what it does."""
    return BASES[name](cache_dir, lambda line: print(f"{line} …", file=sys.stderr, flush=True))
