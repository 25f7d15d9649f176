"""What an engine was built from and for, kept beside it: an engine that differs is never loaded.

    model.plan     the engine
    timing.cache   what its builder measured; a later build on the same device starts from it
    engine.json    the key and the digests of both; written last

An engine holds kernels for one GPU, one driver and one version of TensorRT. This module knows the
files and compares keys; it neither builds nor needs TensorRT.
"""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from unsee.core.files import write_file
from unsee.export.graphs.graphs import GraphPrecision
from unsee.export.graphs.sizes import Profile, Sizes
from unsee.export.onnx.parity import ParityReport
from unsee.export.tensorrt.config import PLAN_FILE

TIMING_FILE = "timing.cache"
ENGINE_FILE = "engine.json"
_BUILDER_VERSION = 1
"""Counts changes of how the builder is told to build."""


class Device(BaseModel):
    """Where an engine runs: a GPU's name and compute capability (`"9.0"`), driver and library."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpu: str
    compute_capability: str
    driver: str
    tensorrt: str


class ProfileSizes(BaseModel):
    """The sizes of every axis that an engine was built for: least, usual and greatest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    minimum: dict[str, int]
    optimum: dict[str, int]
    maximum: dict[str, int]


class EngineKey(BaseModel):
    """All that decides what an engine is; equal keys mean that one can stand for the other.

    `graph_digest` is that of the exported graph (`GraphExport.sha256`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: Device
    graph: str
    graph_digest: str
    precision: GraphPrecision
    profile: ProfileSizes
    builder_version: int = _BUILDER_VERSION


class EngineRecord(BaseModel):
    """The content of `engine.json`: what the engine is, how long its build took, how exact it is.

    Digests are `"sha256:…"`; `parity` is None if the engine was never compared with its model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    key: EngineKey
    plan_digest: str
    timing_digest: str
    build_seconds: float
    parity: ParityReport | None
    created_at: datetime


def engine_key(
    device: Device,
    graph: str,
    graph_digest: str,
    precision: GraphPrecision,
    profile: Profile,
) -> EngineKey:
    """The key of the engine of `graph`, built on `device` for `profile`."""
    sizes = ProfileSizes(
        minimum=_plain(profile.minimum),
        optimum=_plain(profile.optimum),
        maximum=_plain(profile.maximum),
    )
    return EngineKey(
        device=device, graph=graph, graph_digest=graph_digest, precision=precision, profile=sizes
    )


def write_engine(
    folder: Path,
    key: EngineKey,
    plan: bytes,
    timings: bytes,
    build_seconds: float,
    parity: ParityReport | None,
) -> EngineRecord:
    """Write the three files into `folder`; until the last is there the folder holds no engine."""
    record = EngineRecord(
        key=key,
        plan_digest=_digest(plan),
        timing_digest=_digest(timings),
        build_seconds=round(build_seconds, 3),
        parity=parity,
        created_at=datetime.now(UTC),
    )
    (folder / ENGINE_FILE).unlink(missing_ok=True)
    write_file(folder / PLAN_FILE, plan)
    write_file(folder / TIMING_FILE, timings)
    write_file(folder / ENGINE_FILE, (record.model_dump_json(indent=2) + "\n").encode())
    return record


def find_engine(key: EngineKey, folder: Path) -> EngineRecord | None:
    """The record in `folder` if its engine was built from and for just what `key` says, or None.

    An engine whose bytes are not as recorded does not count.
    """
    record = _read_record(folder)
    if record is None or record.key != key:
        return None
    return record if _file_digest(folder / PLAN_FILE) == record.plan_digest else None


def engine_fits(key: EngineKey, folder: Path) -> bool:
    """Whether the engine in `folder` is whole and was built from and for just what `key` says."""
    return find_engine(key, folder) is not None


def reusable_timings(device: Device, folder: Path) -> bytes:
    """What a builder measured on the very same device, or nothing."""
    record = _read_record(folder)
    if record is None or record.key.device != device:
        return b""
    try:
        timings = (folder / TIMING_FILE).read_bytes()
    except OSError:
        return b""
    return timings if _digest(timings) == record.timing_digest else b""


def _read_record(folder: Path) -> EngineRecord | None:
    try:
        return EngineRecord.model_validate_json((folder / ENGINE_FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def _plain(sizes: Sizes) -> dict[str, int]:
    return dict(sorted(sizes.items()))


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _file_digest(file: Path) -> str | None:
    try:
        with file.open("rb") as stream:
            return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
    except OSError:
        return None
