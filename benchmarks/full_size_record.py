"""What one run of `full_size_export.py` found; knows neither how it was found nor how it is shown.

Sizes in bytes, times in seconds, memory as the most that the process held while it did it.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from unsee.export.version import GraphExport


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GraphRow(_Record):
    """One graph: its export's own record, loading its model before, and its files."""

    export: GraphExport
    loading_s: float
    loading_peak_bytes: int
    disk_bytes: int

    @property
    def peak_bytes(self) -> int:
        """The most memory in any stage."""
        return max(self.loading_peak_bytes, *self.export.peak_bytes.values())


class SamplingRow(_Record):
    """One sampling run of the exported graphs against PyTorch float32."""

    num_frames: int
    height: int
    width: int
    steps: int
    psnr_db: float
    torch_s: float
    torch_peak_bytes: int
    onnxruntime_s: float
    onnxruntime_peak_bytes: int


class RunRecord(_Record):
    """One size in one precision on one machine."""

    size: str
    precision: str
    machine: dict[str, Any]
    base_seconds: float
    graphs: tuple[GraphRow, ...]
    sampling: SamplingRow
