"""The engine of a graph in a folder: loaded if it was built from and for just this, else built.

Knows the order of these steps; how an engine is built, checked and recognised is elsewhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unsee.export.graphs.graphs import Graph, GraphPrecision
from unsee.export.graphs.sizes import Profile
from unsee.export.onnx.parity import ParityReport
from unsee.export.tensorrt.build import build_engine
from unsee.export.tensorrt.config import PLAN_FILE
from unsee.export.tensorrt.engine_key import (
    Device,
    EngineRecord,
    engine_key,
    find_engine,
    reusable_timings,
    write_engine,
)


@dataclass(frozen=True)
class KeptEngine:
    """An engine that lies in `folder`, and whether it was there already."""

    folder: Path
    record: EngineRecord
    reused: bool

    def plan(self) -> bytes:
        """The serialised engine."""
        return (self.folder / PLAN_FILE).read_bytes()


def kept_engine(
    graph: Graph,
    file: Path,
    graph_digest: str,
    precision: GraphPrecision,
    profile: Profile,
    device: Device,
    folder: Path,
    check: Callable[[bytes], ParityReport] | None = None,
) -> KeptEngine:
    """The engine of the ONNX file `file` in `folder`, which must be there.

    An engine that differs in anything from what is asked is built again, never loaded; what its
    builder measured on the same device is used again. `check` compares a new engine with its model
    before it is kept; with it, one that was kept unchecked is built again too. Raises what
    `build_engine` and `check` raise.
    """
    key = engine_key(device, graph.name, graph_digest, precision, profile)
    record = find_engine(key, folder)
    if record is not None and (check is None or record.parity is not None):
        return KeptEngine(folder, record, reused=True)
    built = build_engine(graph, file, profile, reusable_timings(device, folder))
    parity = None if check is None else check(built.plan)
    record = write_engine(folder, key, built.plan, built.timings, built.seconds, parity)
    return KeptEngine(folder, record, reused=False)
