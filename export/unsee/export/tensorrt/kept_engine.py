"""The TensorRT engine of a graph, kept in a folder with what it was built from and for.

    model.plan     the engine
    timing.cache   what its builder measured; a later build on the same device starts from it
    engine.json    the key and the digests of both; written last

An engine holds kernels for one GPU, one driver and one version of TensorRT. One that differs in
anything from what is needed is built again, never loaded.
"""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError

from unsee.core.files import digest_of, write_file, write_json
from unsee.core.validation import ClosedModel
from unsee.export.graphs.graphs import Graph
from unsee.export.graphs.sizes import Profile
from unsee.export.onnx.parity import compare
from unsee.export.tensorrt.build import BuiltEngine, Device, EngineRunner, build_engine
from unsee.repository.layout import PLAN_FILE
from unsee.repository.records import GraphPrecision, ParityReport

TIMING_FILE = "timing.cache"
ENGINE_FILE = "engine.json"
_BUILDER_VERSION = 1
"""Counts changes of how the builder is told to build."""


class EngineKey(ClosedModel):
    """All that decides what an engine is; equal keys mean that one can stand for the other.

    `graph_digest` is that of the exported graph (`GraphExport.sha256`).
    """

    device: Device
    graph: str
    graph_digest: str
    precision: GraphPrecision
    profile: Profile
    builder_version: int = _BUILDER_VERSION


class EngineRecord(ClosedModel):
    """The content of `engine.json`: what the engine is, how long its build took, how exact it is.

    Digests are `"sha256:…"`.
    """

    schema_version: Literal[1] = 1
    key: EngineKey
    plan_digest: str
    timing_digest: str
    build_seconds: float
    parity: ParityReport
    created_at: datetime


def keep_engine(
    graph: Graph,
    file: Path,
    key: EngineKey,
    folder: Path,
    check: Callable[[bytes], ParityReport],
) -> None:
    """Build the engine of the ONNX file `file` into `folder` unless just that one lies there.

    What a builder measured on the same device is used again. `check` compares a new engine with its
    model before it is kept. Raises what `build_engine` and `check` raise.
    """
    if find_engine(key, folder) is None:
        built = build_engine(graph, file, key.profile, reusable_timings(key.device, folder))
        write_engine(folder, key, built, check(built.plan))


def engine_check(
    graph: Graph, model: Any, profile: Profile, precision: GraphPrecision
) -> Callable[[bytes], ParityReport]:
    """What compares an engine with `model` on the GPU, at the least and the usual sizes."""

    def check(plan: bytes) -> ParityReport:
        return compare(
            f"the engine of {graph.name}",
            graph,
            model,
            EngineRunner(graph, plan),
            (profile.minimum, profile.optimum),
            precision,
            torch.device("cuda"),
            "do not serve it (float16 overflows in some models: build it with --precision float32)",
        )

    return check


def write_engine(folder: Path, key: EngineKey, built: BuiltEngine, parity: ParityReport) -> None:
    """Write the three files into `folder`; until the last is there the folder holds no engine."""
    record = EngineRecord(
        key=key,
        plan_digest=digest_of(built.plan),
        timing_digest=digest_of(built.timings),
        build_seconds=round(built.seconds, 3),
        parity=parity,
        created_at=datetime.now(UTC),
    )
    (folder / ENGINE_FILE).unlink(missing_ok=True)
    write_file(folder / PLAN_FILE, built.plan)
    write_file(folder / TIMING_FILE, built.timings)
    write_json(folder / ENGINE_FILE, record)


def find_engine(key: EngineKey, folder: Path) -> EngineRecord | None:
    """The record in `folder` if its engine was built from and for just what `key` says, or None.

    An engine whose bytes are not as recorded does not count.
    """
    record = _read_record(folder)
    if record is None or record.key != key:
        return None
    return record if _file_digest(folder / PLAN_FILE) == record.plan_digest else None


def reusable_timings(device: Device, folder: Path) -> bytes:
    """What a builder measured on the very same device, or nothing."""
    record = _read_record(folder)
    if record is None or record.key.device != device:
        return b""
    try:
        timings = (folder / TIMING_FILE).read_bytes()
    except OSError:
        return b""
    return timings if digest_of(timings) == record.timing_digest else b""


def _read_record(folder: Path) -> EngineRecord | None:
    try:
        return EngineRecord.model_validate_json((folder / ENGINE_FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def _file_digest(file: Path) -> str | None:
    try:
        with file.open("rb") as stream:
            return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
    except OSError:
        return None
