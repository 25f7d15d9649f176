"""Writes the second base as a folder that ``WanPipeline.from_pretrained`` reads."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanTransformer3DModel
from transformers import T5TokenizerFast, UMT5EncoderModel

from unsee.core.files import new_folder
from unsee.playground.training.export_base import model_index, save_half

COMPONENTS: Mapping[str, Any] = {
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "UMT5EncoderModel"],
    "tokenizer": ["transformers", "T5TokenizerFast"],
    "transformer": ["diffusers", "WanTransformer3DModel"],
    "transformer_2": [None, None],
    "vae": ["diffusers", "AutoencoderKLWan"],
    "boundary_ratio": None,
    "expand_timesteps": False,
}


def save_unpadded(tokenizer: T5TokenizerFast, folder: Path) -> None:
    """Saves a tokenizer without the padding and truncation that its last call asked for."""
    plain = copy.deepcopy(tokenizer)
    plain.backend_tokenizer.no_padding()
    plain.backend_tokenizer.no_truncation()
    plain.save_pretrained(folder)


def export_wan(
    folder: Path,
    tokenizer: T5TokenizerFast,
    text_encoder: UMT5EncoderModel,
    vae: AutoencoderKLWan,
    transformer: WanTransformer3DModel,
    scheduler: FlowMatchEulerDiscreteScheduler,
) -> None:
    """Writes the pipeline's folder, weights in float16; an existing one is replaced in one move."""
    with new_folder(folder, replace=True) as partial:
        save_unpadded(tokenizer, partial / "tokenizer")
        scheduler.save_pretrained(partial / "scheduler")
        modules = {"text_encoder": text_encoder, "vae": vae, "transformer": transformer}
        for name, module in modules.items():
            save_half(module, partial / name)
        text = model_index("WanPipeline", COMPONENTS)
        (partial / "model_index.json").write_text(text)
