"""Digests of tensors, models and images: what a base's models and a delta are recognised by."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image

from unsee.core.files import digest_of


def tensors_digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return `"sha256:…"` over the tensors in order of their names.

    Each contributes its name, the dtype `float32`, its shape and its raw little-endian bytes after
    conversion to float32, so the digest depends neither on the file format nor on the device.
    """
    sha256 = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().to("cpu", torch.float32).contiguous()
        sha256.update(f"{name}\0float32\0{tuple(tensor.shape)}\0".encode())
        sha256.update(tensor.numpy().astype("<f4", copy=False).data)
    return f"sha256:{sha256.hexdigest()}"


def rounded_digest(tensors: Mapping[str, torch.Tensor], dtype: torch.dtype) -> str:
    """`tensors_digest` of the tensors rounded to `dtype`."""
    return tensors_digest({name: tensor.to(dtype) for name, tensor in tensors.items()})


def models_digest(denoiser: Any, vae: Any, scheduler: Any) -> str:
    """`"sha256:…"` over the weights and configurations of what makes frames of embeddings."""
    parts = [_described(scheduler)]
    for model in (denoiser, vae):
        parts += [_described(model), tensors_digest(model.state_dict())]
    return digest_of("\0".join(parts).encode())


def images_digest(images: Sequence[Image.Image]) -> str:
    """`"sha256:…"` over the images' sizes and RGB bytes in order."""
    sha256 = hashlib.sha256()
    for image in images:
        sha256.update(f"{image.width}x{image.height}\0".encode())
        sha256.update(image.convert("RGB").tobytes())
    return f"sha256:{sha256.hexdigest()}"


def equal_after_rounding(
    one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]
) -> str | None:
    """The half-precision type that one side is rounded to and to which the other rounds equally.

    "float16" or "bfloat16"; None if names, shapes or values differ otherwise.
    """
    shapes = [{name: tensor.shape for name, tensor in side.items()} for side in (one, other)]
    if shapes[0] != shapes[1]:
        return None
    for dtype in (torch.float16, torch.bfloat16):
        rounded = [_rounds_to(one, other, dtype), _rounds_to(other, one, dtype)]
        if any(rounded):
            return str(dtype).removeprefix("torch.")
    return None


def _described(component: Any) -> str:
    """Class and configuration, without what loading adds to it."""
    config = {name: value for name, value in component.config.items() if name[0] != "_"}
    return json.dumps([type(component).__name__, config], sort_keys=True, default=str)


def _rounds_to(
    fine: Mapping[str, torch.Tensor], coarse: Mapping[str, torch.Tensor], dtype: torch.dtype
) -> bool:
    return all(
        torch.equal(fine[name].to(dtype).to(tensor.dtype), tensor)
        for name, tensor in coarse.items()
    )
