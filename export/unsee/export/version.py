"""Exports a graph into a version folder, `model.onnx` and `export.json`, and finds it again."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from unsee.core.errors import NotExportable
from unsee.core.files import check_space, locked, new_folder, write_json
from unsee.export.graphs.graphs import Graph
from unsee.export.graphs.prompt_graphs import EditGraph
from unsee.export.memory import peak_memory
from unsee.export.onnx.edit_nodes import write_edit
from unsee.export.onnx.exporter import OPSET, export_onnx
from unsee.export.onnx.half import half_copy
from unsee.export.onnx.parity import check_parity
from unsee.models.digest import tensors_digest
from unsee.repository.layout import EXPORT_FILE, MODEL_FILE, graph_digest
from unsee.repository.records import GraphExport, GraphPrecision

_EXPORTER_VERSION = 7
"""Counts changes of what the exporter writes for the same source."""

_BYTES_PER_WEIGHT: Mapping[GraphPrecision, int] = {"float32": 4, "float16": 2}
_GRAPH_BYTES = 2**25
"""More than what a file holds beside the weights: nodes, names, records."""

_LIBRARIES = ("torch", "diffusers", "transformers", "onnx", "onnxscript", "onnxruntime")


def export_version(
    graph: Graph,
    model: Any,
    version_dir: Path,
    precision: GraphPrecision = "float32",
) -> GraphExport:
    """Export `model` (float32, left as it is) into `version_dir` (there, empty), check it, and
    record both.

    Raises `ParityError` if the graph differs from the model, `NotExportable` if there is no such
    graph in `precision`, and `RepositoryError` if the disk has no room for it.
    """
    check_precision(graph, precision)
    check_space(version_dir.parent, needed_bytes(model, precision), f"exporting {graph.name}")
    file = version_dir / MODEL_FILE
    stages = _Stages()
    with stages.measured("export"):
        if isinstance(graph, EditGraph):
            num_nodes = write_edit(graph, model, file)
        else:
            num_nodes = export_onnx(graph, _in_precision(model, precision), file)
    with stages.measured("parity"):
        report = check_parity(graph, model, file, precision)
    record = GraphExport(
        graph=graph.name,
        precision=precision,
        sha256=graph_digest(version_dir),
        source_digest=source_digest(graph, model, precision),
        opset=OPSET,
        parity=report,
        num_parameters=num_parameters(model),
        num_nodes=num_nodes,
        versions={library: metadata.version(library) for library in _LIBRARIES},
        seconds=stages.seconds,
        peak_bytes=stages.peak_bytes,
        created_at=datetime.now(UTC),
    )
    write_json(version_dir / EXPORT_FILE, record)
    return record


def export_once(
    graph: Graph,
    model: Any,
    version_dir: Path,
    precision: GraphPrecision = "float32",
    before: Callable[[], None] = lambda: None,
) -> tuple[GraphExport, bool]:
    """The export in `version_dir` and whether it was there; if not, it is made after `before`.

    Raises what `export_version` raises.
    """
    with locked(version_dir.parent):
        found = find_export(graph, model, version_dir, precision)
        if found is not None:
            return found, True
        before()
        with new_folder(version_dir, replace=True) as new:
            return export_version(graph, model, new, precision), False


def check_precision(graph: Graph, precision: GraphPrecision) -> None:
    """Raise `NotExportable` unless `graph` can be exported in `precision`."""
    if precision not in graph.tolerances:
        raise NotExportable(
            f"the {graph.name} is exported in {' or '.join(graph.tolerances)}, not in {precision}"
        )


def num_parameters(model: Any) -> int:
    """How many numbers the model's state holds; those that two names share count once."""
    tensors = model.state_dict().values()
    return sum({tensor.data_ptr(): tensor.numel() for tensor in tensors}.values())


def needed_bytes(model: Any, precision: GraphPrecision) -> int:
    """How much disk an export of `model` takes, rather too much than too little."""
    tensors = (*model.parameters(), *model.buffers())
    weights: int = sum(tensor.numel() for tensor in tensors)
    return weights * _BYTES_PER_WEIGHT[precision] + _GRAPH_BYTES


def find_export(
    graph: Graph, model: Any, version_dir: Path, precision: GraphPrecision = "float32"
) -> GraphExport | None:
    """The record in `version_dir` if that export is whole and was made from just these, or None."""
    record = read_export(version_dir)
    if record is None or record.source_digest != source_digest(graph, model, precision):
        return None
    return record


def read_export(version_dir: Path) -> GraphExport | None:
    """The record in `version_dir`, or None unless it is there and `model.onnx` is as it says."""
    try:
        record = GraphExport.model_validate_json((version_dir / EXPORT_FILE).read_bytes())
        return record if graph_digest(version_dir) == record.sha256 else None
    except (OSError, ValidationError):
        return None


def source_digest(graph: Graph, model: Any, precision: GraphPrecision = "float32") -> str:
    """`"sha256:…"` over the weights, the configuration, the graph's border and precision, and the
    exporter."""
    sha256 = hashlib.sha256(tensors_digest(model.state_dict()).encode())
    sha256.update(json.dumps(_config(model), sort_keys=True, default=str).encode())
    facts = f"{graph!r} {precision} opset {OPSET} exporter {_EXPORTER_VERSION}"
    sha256.update(facts.encode())
    return f"sha256:{sha256.hexdigest()}"


class _Stages:
    """Seconds and peak memory by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peak_bytes: dict[str, int] = {}

    @contextmanager
    def measured(self, stage: str) -> Iterator[None]:
        """Book what the block takes under `stage`."""
        started = time.perf_counter()
        with peak_memory() as memory:
            yield
        self.seconds[stage] = round(time.perf_counter() - started, 3)
        self.peak_bytes[stage] = memory.peak_bytes


def _in_precision(model: Any, precision: GraphPrecision) -> Any:
    return half_copy(model) if precision == "float16" else model


def _config(model: Any) -> dict[str, Any]:
    """The model's configuration without what the libraries note about files and versions.

    A normalisation has none: its class and constants stand for it.
    """
    if not hasattr(model, "config"):
        return {"module": repr(model)}
    config = model.config.to_dict() if hasattr(model.config, "to_dict") else dict(model.config)
    noted = {name for name in config if name.startswith("_") or name.endswith("_version")}
    return {name: value for name, value in config.items() if name not in noted}
