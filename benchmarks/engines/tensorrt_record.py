"""What `tensorrt.py` measured, as a file."""

from __future__ import annotations

import statistics
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from unsee.export.tensorrt.kept_engine import EngineKey
from unsee.repository.records import ParityReport

Variant = Literal["eager", "compiled", "tensorrt"]
Operation = Literal["step", "decode", "clip"]
YARDSTICK: Variant = "eager"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EngineReport(_Section):
    """One engine: what it was built from and for, what that took and how exact it is.

    `build_seconds` is that of the build that made it, also when it was `reused`.
    """

    key: EngineKey
    reused: bool
    build_seconds: float
    plan_bytes: int
    parity: ParityReport | None


class Timing(_Section):
    """One operation of one variant: seconds of every call, and how near the GPU's limit that is.

    A step is one guided evaluation of the video UNet, a decode turns one clip's latents into
    frames, a clip is all steps and the decode. `flops` are counted on the eager variant and are
    those of the mathematics; `share_of_peak` is flops over the median seconds over the GPU's
    published peak in half precision.
    """

    variant: Variant
    operation: Operation
    seconds: tuple[float, ...] = Field(min_length=1)
    flops: int | None
    share_of_peak: float | None

    @property
    def median_s(self) -> float:
        """The median of `seconds`."""
        return statistics.median(self.seconds)


class HostRecord(_Section):
    """One run on a GPU host.

    `clip` is the size of every axis of the video UNet and `steps` the number of its evaluations;
    `memory_bytes` is what each variant's process held on the GPU after its runs; `failures` says
    in a sentence why a variant has no timings.
    """

    schema_version: Literal[1] = 1
    base: str
    base_digest: str
    clip: dict[str, int]
    steps: int
    versions: dict[str, str]
    peak_flops: float
    engines: tuple[EngineReport, ...]
    timings: tuple[Timing, ...]
    memory_bytes: dict[Variant, int]
    failures: dict[Variant, str]
    created_at: datetime

    def times_faster(self, timing: Timing) -> float | None:
        """The yardstick's median over this one's, for the same operation."""
        for other in self.timings:
            if (other.variant, other.operation) == (YARDSTICK, timing.operation):
                return other.median_s / timing.median_s
        return None
