"""One version folder of an exported graph: `model.onnx` and `export.json`, what it is and why.

Knows how a graph is exported, checked and recognised; knows neither revisions nor policies.
"""

import hashlib
import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from unsee.export.graphs import Graph
from unsee.export.model_config import MODEL_FILE
from unsee.export.onnx_export import OPSET, export_onnx
from unsee.export.parity import ParityReport, check_parity
from unsee.training.digest import tensors_digest

EXPORT_FILE = "export.json"
_EXPORTER_VERSION = 1
"""Counts changes of what the exporter writes for the same source."""

_LIBRARIES = ("torch", "diffusers", "transformers", "onnx", "onnxscript", "onnxruntime")


class GraphExport(BaseModel):
    """The content of `export.json`: which graph `model.onnx` is and how well it matches PyTorch.

    `sha256` is over `model.onnx` and, if there are, its external weights; `source_digest` over
    what it was made from; `seconds` has one value per stage.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    graph: str
    sha256: str
    source_digest: str
    opset: int
    parity: ParityReport
    versions: dict[str, str]
    seconds: dict[str, float]
    created_at: datetime


def export_version(graph: Graph, model: Any, version_dir: Path) -> GraphExport:
    """Export `model` into `version_dir` (there, empty), check it, and record both.

    Raises `ParityError` if the graph differs from the model.
    """
    file = version_dir / MODEL_FILE
    started = time.perf_counter()
    export_onnx(graph, model, file)
    exported = time.perf_counter()
    report = check_parity(graph, model, file)
    checked = time.perf_counter()
    record = GraphExport(
        graph=graph.name,
        sha256=model_digest(version_dir),
        source_digest=source_digest(graph, model),
        opset=OPSET,
        parity=report,
        versions={library: metadata.version(library) for library in _LIBRARIES},
        seconds={
            "export": round(exported - started, 3),
            "parity": round(checked - exported, 3),
        },
        created_at=datetime.now(UTC),
    )
    (version_dir / EXPORT_FILE).write_text(record.model_dump_json(indent=2) + "\n")
    return record


def read_export(version_dir: Path) -> GraphExport | None:
    """The record in `version_dir`, or None unless it is there and `model.onnx` is as it says."""
    try:
        record = GraphExport.model_validate_json((version_dir / EXPORT_FILE).read_bytes())
        return record if model_digest(version_dir) == record.sha256 else None
    except (OSError, ValidationError):
        return None


def source_digest(graph: Graph, model: Any) -> str:
    """`"sha256:…"` over the weights, the configuration, the graph's border and the exporter."""
    sha256 = hashlib.sha256(tensors_digest(model.state_dict()).encode())
    sha256.update(json.dumps(_config(model), sort_keys=True, default=str).encode())
    sha256.update(f"{graph!r} opset {OPSET} exporter {_EXPORTER_VERSION}".encode())
    return f"sha256:{sha256.hexdigest()}"


def model_digest(version_dir: Path) -> str:
    """`"sha256:…"` over the bytes of `model.onnx` and then, if there is one, `model.onnx.data`."""
    files = [version_dir / MODEL_FILE, version_dir / f"{MODEL_FILE}.data"]
    return files_digest(file for file in files if file == files[0] or file.exists())


def files_digest(files: Iterable[Path]) -> str:
    """`"sha256:…"` over the bytes of the files, one after the other."""
    sha256 = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                sha256.update(block)
    return f"sha256:{sha256.hexdigest()}"


def _config(model: Any) -> dict[str, Any]:
    """The model's configuration without what the libraries note about files and versions."""
    config = model.config.to_dict() if hasattr(model.config, "to_dict") else dict(model.config)
    noted = {name for name in config if name.startswith("_") or name.endswith("_version")}
    return {name: value for name, value in config.items() if name not in noted}
