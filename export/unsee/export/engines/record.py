"""What `engines.json` holds: what was asked for, what was measured, which engines were chosen."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from unsee.core.validation import ClosedModel
from unsee.export.engines.engine import AUTO, Auto, Engine, EngineName, Precision
from unsee.export.engines.machine import Machine
from unsee.export.engines.measurement import Timing

LEAST_PSNR_DB = 35.0
"""Frames that differ more from float32's are not the same clip to the eye."""


class EngineSelection(ClosedModel):
    """What the caller selects: an engine and a precision, each by name or "auto"."""

    engine: EngineName | Auto = AUTO
    precision: Precision | Auto = AUTO


MEASURED = EngineSelection()
"""Whatever is best on this machine."""


class Candidate(ClosedModel):
    """What was measured of an engine on a graph; `failure` says why its frames were not compared.

    `psnr_db` is of the frames of one whole clip against float32's, made with the engines that were
    chosen for other graphs before; None where all of them are float32's own.
    """

    engine: str
    timing: Timing | None = None
    psnr_db: float | None = None
    failure: str | None = None

    @property
    def speedup(self) -> float:
        """How many times as fast as ONNX Runtime in float32, which is not timed itself."""
        return 1.0 if self.timing is None else self.timing.speedup

    @property
    def fits(self) -> bool:
        """Whether it works and its frames are float32's to the eye."""
        exact = self.psnr_db is None or self.psnr_db >= LEAST_PSNR_DB
        return self.failure is None and exact


class GraphChoice(ClosedModel):
    """The engine of one graph and why; `sizes` are those of the calls that were timed."""

    graph_digest: str
    sizes: dict[str, int]
    engine: str
    reason: str
    candidates: tuple[Candidate, ...]


class EngineChoice(ClosedModel):
    """The content of `engines.json`; `seconds` is how long the measurements took."""

    schema_version: Literal[2] = 2
    machine: Machine
    selection: EngineSelection
    graphs: dict[str, GraphChoice]
    seconds: float
    created_at: datetime

    def engine(self, graph: str) -> Engine:
        """The engine chosen for a graph."""
        return Engine.of(self.graphs[graph].engine)

    def holds_for(
        self,
        graphs: Mapping[str, tuple[str, dict[str, int]]],
        selection: EngineSelection,
        machine: Machine,
    ) -> bool:
        """Whether it was made for these graphs (digest and sizes by name) on this machine."""
        decided = {name: (c.graph_digest, c.sizes) for name, c in self.graphs.items()}
        return (self.selection, self.machine, decided) == (selection, machine, graphs)


def read_choice(file: Path) -> EngineChoice | None:
    """The record in `file`; None if there is none or it is of another schema."""
    try:
        return EngineChoice.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None
