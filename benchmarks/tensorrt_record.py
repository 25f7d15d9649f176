"""What `tensorrt_host.py` measured, as a file and as a table; knows no GPU and measures nothing."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from rich.table import Table

from unsee.export.onnx.parity import ParityReport
from unsee.export.tensorrt.kept_engine import EngineKey

_GIB = 2**30

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


def table_of(record: HostRecord) -> Table:
    """The timings as a table for the terminal."""
    size = ", ".join(f"{axis} = {length}" for axis, length in record.clip.items())
    device = record.engines[0].key.device.gpu if record.engines else "no engine"
    table = Table(
        title=f"{record.base} ({size}, {record.steps} steps) in half precision on {device}"
    )
    for heading in ("variant", "operation", "seconds", "times faster", "share of peak", "GiB"):
        table.add_column(
            heading, justify="left" if heading in ("variant", "operation") else "right"
        )
    for row in _rows(record):
        table.add_row(*row)
    return table


def _rows(record: HostRecord) -> Iterator[tuple[str, ...]]:
    for timing in record.timings:
        faster = record.times_faster(timing)
        yield (
            timing.variant,
            timing.operation,
            f"{timing.median_s:.4f}",
            "" if faster is None else f"{faster:.2f}",
            "" if timing.share_of_peak is None else f"{timing.share_of_peak:.0%}",
            f"{record.memory_bytes[timing.variant] / _GIB:.2f}",
        )
