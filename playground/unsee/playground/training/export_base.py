"""Writes trained weights as the folders that diffusers' ``from_pretrained`` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel, UNet3DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from unsee.core.files import new_folder
from unsee.playground.networks.tokenizer import save_tokenizer

SHARED = ("tokenizer", "text_encoder", "vae")


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries ``prefix.*`` of a state dict, without the prefix."""
    start = f"{prefix}."
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}


def model_index(pipeline: str, components: Mapping[str, Any], **extra: Any) -> str:
    index = {"_class_name": pipeline, "_diffusers_version": diffusers.__version__}
    return json.dumps({**index, **components, **extra}, indent=2) + "\n"


SHARED_INDEX = {
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def save_half(module: Any, folder: Path) -> None:
    """Saves a copy of the weights in float16 safetensors; the config names no folder here."""
    before = {name: value.clone() for name, value in module.state_dict().items()}
    module.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    module.to(torch.float32).load_state_dict(before)
    config_file = folder / "config.json"
    config = json.loads(config_file.read_text())
    config.pop("_name_or_path", None)  # of a module that was loaded
    if "dtype" in config:  # transformers would load float16 beside diffusers' float32
        config["dtype"] = "float32"
    config_file.write_text(json.dumps(config, indent=2) + "\n")


def export_t2i(
    folder: Path,
    tokenizer: CLIPTokenizer,
    text_encoder: CLIPTextModel,
    vae: AutoencoderKL,
    unet: UNet2DConditionModel,
    scheduler: DDIMScheduler,
) -> None:
    """Writes a StableDiffusionPipeline folder; an existing one is replaced in one move."""
    with new_folder(folder, replace=True) as partial:
        save_tokenizer(tokenizer, partial / "tokenizer")
        scheduler.save_pretrained(partial / "scheduler")
        for name, module in (("text_encoder", text_encoder), ("vae", vae), ("unet", unet)):
            save_half(module, partial / name)
        components = {
            **SHARED_INDEX,
            "unet": ["diffusers", "UNet2DConditionModel"],
            "feature_extractor": [None, None],
            "image_encoder": [None, None],
            "safety_checker": [None, None],
        }
        text = model_index("StableDiffusionPipeline", components, requires_safety_checker=False)
        (partial / "model_index.json").write_text(text)


def export_t2v(folder: Path, unet: UNet3DConditionModel, scheduler: DDIMScheduler) -> None:
    """Writes a TextToVideoSDPipeline folder that shares parts with the T2I one beside it."""
    with new_folder(folder, replace=True) as partial:
        scheduler.save_pretrained(partial / "scheduler")
        save_half(unet, partial / "unet")
        for name in SHARED:
            (partial / name).symlink_to(Path("..") / "t2i" / name)
        components = {**SHARED_INDEX, "unet": ["diffusers", "UNet3DConditionModel"]}
        (partial / "model_index.json").write_text(model_index("TextToVideoSDPipeline", components))
