"""What the exporter says about the base: sizes, limits, defaults (`assets/base.json`).

It does not know the weights, and it trusts the file only as far as it can check it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Defaults:
    """What a request that does not say gets; sizes in pixels."""

    num_frames: int
    height: int
    width: int
    fps: int
    num_inference_steps: int
    guidance_scale: float
    scheduler: str


@dataclass(frozen=True)
class Limits:
    """What a request may ask for: inclusive ranges; sizes in pixels, multiples of one number."""

    num_frames: tuple[int, int]
    height: tuple[int, int]
    width: tuple[int, int]
    size_multiple: int
    num_inference_steps: tuple[int, int]
    guidance_scale: tuple[float, float]
    prompt_tokens: int


@dataclass(frozen=True)
class Base:
    """The base that the repository was exported from."""

    name: str
    digest: str
    latent_channels: int
    vae_scale: int
    defaults: Defaults
    limits: Limits
    schedulers: tuple[str, ...]
    graphs: dict[str, str]


def read_base(path: Path) -> Base:
    """Read `base.json`; raises ValueError naming the field that is missing or unknown."""
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if record.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(f"base.json has schema_version {record.get('schema_version')!r}, not 1")
    try:
        limits: dict[str, Any] = record["limits"]
        limits = {k: tuple(v) if isinstance(v, list) else v for k, v in limits.items()}
        return Base(
            name=record["name"],
            digest=record["digest"],
            latent_channels=record["latents"]["channels"],
            vae_scale=record["latents"]["vae_scale"],
            defaults=Defaults(**record["defaults"]),
            limits=Limits(**limits),
            schedulers=tuple(record["schedulers"]),
            graphs=dict(record["graphs"]),
        )
    except KeyError as error:
        raise ValueError(f"base.json lacks the field {error}") from None
    except TypeError as error:
        raise ValueError(f"base.json does not fit: {error}") from None
