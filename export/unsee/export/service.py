"""How an exported graph is served by its engine: `config.pbtxt` and, for TensorRT, `model.plan`.

That is all that an engine needs beside the ONNX file.
"""

from collections.abc import Callable
from typing import Any

from unsee.core.files import locked, write_file
from unsee.export.engines.engine import Engine, graph_precision, shapes_kept
from unsee.export.engines.model_config import Service, batched_config, graph_config, pbtxt
from unsee.export.graphs.denoiser_graph import VideoDenoiserGraph
from unsee.export.measured_graphs import ExportedGraph, call_sizes
from unsee.models.base import Base
from unsee.repository.layout import CONFIG_FILE


def write_service(
    exported: ExportedGraph,
    model: Any,
    engine: Engine,
    base: Base,
    progress: Callable[[str], None],
) -> None:
    """Make the folder of `exported`, which is `model`, servable by `engine`.

    What has not changed is not touched. Raises what TensorRT's builder and its parity check raise
    where that is the engine.
    """
    model_dir = exported.version_dir.parent
    with locked(model_dir):
        if engine.name == "tensorrt":
            progress(f"building {engine} of {exported.graph.name}")
            _build_plan(exported, model, engine, base)
        config = _config(exported, _service(exported, engine, base))
        write_file(model_dir / CONFIG_FILE, pbtxt(config))


def _service(exported: ExportedGraph, engine: Engine, base: Base) -> Service:
    if not engine.compiles_shapes:
        return Service(engine)
    files = exported.version_dir.glob(f"{exported.file.name}*")
    graph_bytes = sum(file.stat().st_size for file in files)
    return Service(engine, shapes_kept(graph_bytes), call_sizes(exported.graph, base))


def _config(exported: ExportedGraph, service: Service) -> Any:
    if isinstance(exported.graph, VideoDenoiserGraph):
        return batched_config(exported.graph, service)
    return graph_config(exported.graph, exported.graph.name, service)


def _build_plan(exported: ExportedGraph, model: Any, engine: Engine, base: Base) -> None:
    """Build the TensorRT engine beside the ONNX file unless just that one is there."""
    from unsee.export.tensorrt.build import current_device
    from unsee.export.tensorrt.kept_engine import EngineKey, engine_check, keep_engine

    graph, precision = exported.graph, graph_precision((engine,))
    profile = graph.profile(base.spec.clip, base.spec.limits)
    check = engine_check(graph, model, profile, precision)
    key = EngineKey(
        device=current_device(),
        graph=graph.name,
        graph_digest=exported.digest,
        precision=precision,
        profile=profile,
    )
    keep_engine(graph, exported.file, key, exported.version_dir, check)
