"""From a request's tensors to a checked GenerationRequest; it knows no Triton object."""

from __future__ import annotations

import math
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from text_to_video.acceleration import PACES
from text_to_video.base import Base
from text_to_video.refusal import Refusal, quoted

INPUTS = (
    "prompt",
    "negative_prompt",
    "policy",
    "revision",
    "seed",
    "num_inference_steps",
    "guidance_scale",
    "num_frames",
    "height",
    "width",
    "scheduler",
    "acceleration",
)
SEED_BITS = 32  # of a drawn seed: short enough to be typed, exact in every JSON reader

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class GenerationRequest:
    """What the client asked for, with the base's defaults filled in. Sizes in pixels."""

    prompt: str
    negative_prompt: str
    policy: str | None
    revision: int | None
    seed: int
    scheduler: str
    acceleration: str
    num_inference_steps: int
    guidance_scale: float
    num_frames: int
    height: int
    width: int


def parse_request(tensors: Mapping[str, Array], base: Base) -> GenerationRequest:
    """Check the inputs (each of shape [1]) against the base's limits; raises Refusal.

    Whether the scheduler offers this number of steps is the sampler table's to say.
    """
    defaults, limits = base.defaults, base.limits
    request = GenerationRequest(
        prompt=_text(tensors, "prompt"),
        negative_prompt=_text(tensors, "negative_prompt", ""),
        policy=_text(tensors, "policy") if "policy" in tensors else None,
        revision=_integer(tensors, "revision", 0) if "revision" in tensors else None,
        seed=_integer(tensors, "seed", -1) if "seed" in tensors else secrets.randbits(SEED_BITS),
        scheduler=_choice(tensors, "scheduler", defaults.scheduler, base.schedulers),
        acceleration=_choice(tensors, "acceleration", "none", PACES),
        num_inference_steps=_integer(tensors, "num_inference_steps", defaults.num_inference_steps),
        guidance_scale=_number(tensors, "guidance_scale", defaults.guidance_scale),
        num_frames=_integer(tensors, "num_frames", defaults.num_frames),
        height=_integer(tensors, "height", defaults.height),
        width=_integer(tensors, "width", defaults.width),
    )
    if not request.prompt.strip():
        raise _invalid("prompt is empty; say what the clip shall show")
    if request.seed < 0:
        raise _invalid(f"seed must be 0 or more, not {request.seed}")
    _check("num_inference_steps", request.num_inference_steps, limits.num_inference_steps)
    _check("guidance_scale", request.guidance_scale, limits.guidance_scale)
    _check("num_frames", request.num_frames, limits.num_frames)
    for name, size, limit in (
        ("height", request.height, limits.height),
        ("width", request.width, limits.width),
    ):
        _check(name, size, limit)
        if size % limits.size_multiple:
            raise _invalid(f"{name} must be a multiple of {limits.size_multiple}, not {size}")
    return request


def _check(name: str, value: float, limit: tuple[float, float]) -> None:
    low, high = limit
    if not (math.isfinite(value) and low <= value <= high):
        wanted = f"between {low} and {high}" if low != high else f"{low}"
        raise _invalid(f"{name} must be {wanted}, not {value}")


def _text(tensors: Mapping[str, Array], name: str, default: str | None = None) -> str:
    if name not in tensors:
        if default is None:
            raise _invalid(f"{name} is missing")
        return default
    value = _scalar(tensors, name)
    if isinstance(value, str):
        return value
    try:
        return bytes(value).decode("utf-8")
    except (UnicodeDecodeError, TypeError):
        raise _invalid(f"{name} is not text in UTF-8") from None


def _choice(tensors: Mapping[str, Array], name: str, default: str, offered: Collection[str]) -> str:
    choice = _text(tensors, name, default)
    if choice not in offered:
        names = ", ".join(offered)
        raise _invalid(f"there is no {name} {quoted(choice)}; this server has {names}")
    return choice


def _integer(tensors: Mapping[str, Array], name: str, default: int) -> int:
    return int(_scalar(tensors, name)) if name in tensors else default


def _number(tensors: Mapping[str, Array], name: str, default: float) -> float:
    if name not in tensors:
        return default
    value = _scalar(tensors, name)  # FP32: 7.1 shall stay 7.1 in the record, not 7.099999904…
    return float(str(value)) if isinstance(value, np.floating) else float(value)


def _scalar(tensors: Mapping[str, Array], name: str) -> Any:
    array = tensors[name]
    if array.shape != (1,):
        raise _invalid(f"{name} must hold one value, in a tensor of shape [1]")
    return array[0]


def _invalid(message: str) -> Refusal:
    return Refusal("INVALID_ARGUMENT", message)
