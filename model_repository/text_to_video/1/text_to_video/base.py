"""`base.json`: the base that a repository was exported from – sizes, limits and defaults.

`text_to_video` can import nothing of Unsee, so this file lies beside it and needs the standard
library alone; `unsee.repository.base` is a link to it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

SCHEMA_VERSION = 3
FEWEST_ROWS = 32


@dataclass(frozen=True)
class Prompt:
    """How a prompt becomes the `prompt_tokens` rows that the denoiser is given.

    Args:
        masks_padding: whether the text encoder is given a mask that hides the padding from it, as
            its own configuration or the pipeline asks for; else every position is seen.
        padding: what the denoiser is given at the padding. "read": what the text encoder says
            there, which is given all `prompt_tokens`. "zeros": rows of zeros, so that the text
            encoder is given no more tokens than the longest prompt of a call has, and the denoiser
            no more than `prompt_rows`, the last of which stands for all that are left out.
        cleans: whether a prompt is cleaned before the tokenizer (see `prompt_text`).
    """

    masks_padding: bool
    padding: Literal["read", "zeros"]
    cleans: bool


@dataclass(frozen=True)
class Latents:
    """The denoiser's space: `vae_scale` is how many pixels a side of a latent stands for.

    `frames_per_latent` is how many frames a latent frame stands for; where that is more than one,
    the clip's first frame has a latent frame of its own, and the autoencoder decodes one latent
    frame after the other.
    """

    channels: int
    vae_scale: int
    frames_per_latent: int = 1

    def latent_frames(self, num_frames: int) -> int:
        """How many latent frames a clip of `num_frames` has."""
        return 1 + (num_frames - 1) // self.frames_per_latent


@dataclass(frozen=True)
class Defaults:
    """What a request that does not say gets; sizes in pixels."""

    num_frames: int
    height: int
    width: int
    fps: float
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
    """The content of `base.json`.

    Args:
        digest: that of the base's text encoder.
        schedulers: the names that a request may choose from.
        graphs: digest of each graph, and engine of those that have a choice, as they go into every
            clip's record.
        largest_clip_bytes: about what a clip at the limits takes of memory while it is made; 0:
            not known.
        models_digest: that of the base's denoiser, autoencoder and scheduler; "": not known.
    """

    schema_version: int
    name: str
    digest: str
    prompt: Prompt
    latents: Latents
    defaults: Defaults
    limits: Limits
    schedulers: tuple[str, ...]
    graphs: dict[str, str]
    largest_clip_bytes: int = 0
    models_digest: str = ""


def prompt_rows(longest: int, prompt_tokens: int) -> int:
    """How many rows a denoiser is given of prompts of at most `longest` tokens behind which are
    zeros: all `prompt_tokens`, or fewer that end in one of zeros.

    They double from `FEWEST_ROWS` on, so that clips of different prompts share batches, and engines
    need few shapes.
    """
    rows = FEWEST_ROWS
    while rows <= longest:
        rows *= 2
    return min(rows, prompt_tokens)


def read_base(file: Path) -> Base:
    """The record in `file`.

    Raises:
        OSError: it cannot be read.
        ValueError: it does not fit; the message names the field.
    """
    record = json.loads(file.read_text(encoding="utf-8"))
    version = record.get("schema_version") if isinstance(record, dict) else None
    if version != SCHEMA_VERSION:
        raise ValueError(f"{file.name} has schema_version {version!r}, not {SCHEMA_VERSION}")
    base: Base = _fitted(Base, record, file.name)
    return base


def check_graphs(base: Base, export_file: Callable[[str], Path]) -> None:
    """Look whether the graphs beside the record are those that it names.

    An export that was interrupted leaves the graphs of two, which fit in shape and make no clip
    that anybody wants.

    Args:
        export_file: the `export.json` of a model.

    Raises:
        ValueError: one is not; it is named, with both digests.
        OSError: the `export.json` of one cannot be read.
    """
    for model, digest in base.graphs.items():
        if not digest.startswith("sha256:"):  # the engine of a graph
            continue
        record = json.loads(export_file(model).read_text(encoding="utf-8"))
        found = record.get("sha256") if isinstance(record, dict) else None
        if found != digest:
            raise ValueError(
                f"{model} is of another export than the record of the base: its graph has the "
                f"digest {str(found)[:19]}, not {digest[:19]}"
            )


def _fitted(wanted: Any, value: Any, where: str) -> Any:
    """`value`, as JSON has it, as the type `wanted`: a dataclass, tuple, dict or plain value."""
    hints = get_type_hints(wanted) if is_dataclass(wanted) else {}
    if hints and isinstance(value, dict):
        missing = {name for name in hints.keys() - value.keys() if not hasattr(wanted, name)}
        unknown = value.keys() - hints.keys()
        for name in (*sorted(missing), *sorted(unknown)):
            what = "lacks the field" if name in hints else "has a field that is not known,"
            raise ValueError(f"{where} {what} {name!r}")
        return wanted(**{k: _fitted(hints[k], v, f"{where}: {k}") for k, v in value.items()})
    if get_origin(wanted) is tuple and isinstance(value, list):
        kinds = get_args(wanted)
        kinds = kinds[:1] * len(value) if kinds[-1] is Ellipsis else kinds
        if len(kinds) == len(value):
            return tuple(_fitted(k, v, where) for k, v in zip(kinds, value, strict=True))
    if get_origin(wanted) is Literal and value in get_args(wanted):
        return value
    if get_origin(wanted) is dict and isinstance(value, dict):
        return {key: _fitted(str, entry, f"{where}.{key}") for key, entry in value.items()}
    numbers = (int, float) if wanted is float else (wanted,)
    plain = get_origin(wanted) is None and not hints
    if plain and isinstance(value, numbers) and isinstance(value, bool) == (wanted is bool):
        return value
    raise ValueError(f"{where} is {value!r}")
