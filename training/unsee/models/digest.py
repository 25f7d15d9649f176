"""Digests of tensors and images: what a base's text encoder and a delta are recognised by.

Knows neither files nor models, only values and their names.
"""

import hashlib
from collections.abc import Mapping, Sequence

import torch
from PIL import Image


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


def images_digest(images: Sequence[Image.Image]) -> str:
    """`"sha256:…"` over the images' sizes and RGB bytes in order."""
    sha256 = hashlib.sha256()
    for image in images:
        sha256.update(f"{image.width}x{image.height}\0".encode())
        sha256.update(image.convert("RGB").tobytes())
    return f"sha256:{sha256.hexdigest()}"
