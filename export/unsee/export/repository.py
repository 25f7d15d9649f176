"""The model repository of a base: every model that Triton loads, from one base folder.

Knows which models there are and what is still up to date; how each is written is elsewhere.

    text_encoder_base/1   video_unet/1   vae_decoder/1   text_to_video/   policies.json
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unsee.client.policy import BASE_POLICY
from unsee.export.assets import write_text_to_video
from unsee.export.atomic_write import locked, new_folder, write_file
from unsee.export.errors import RepositoryError
from unsee.export.graphs import Graph, VAEDecoderGraph, VideoUNetGraph
from unsee.export.model_config import graph_config, pbtxt, video_unet_config
from unsee.export.revision import (
    GOLDEN_FILE,
    REVISION_FILE,
    encoder_model,
    fill_revision,
    text_encoder_graph,
    write_encoder_config,
    write_revision,
)
from unsee.export.sampler_table import sampler_tables
from unsee.export.version import GraphExport, export_version, read_export, source_digest
from unsee.training.base import Base

__all__ = ["ExportRecord", "GraphOutcome", "write_repository", "write_revision"]

POLICIES_FILE = "policies.json"
VERSION = 1
_BASE_ENCODER = encoder_model(BASE_POLICY)


@dataclass(frozen=True)
class GraphOutcome:
    """One model of the repository: its export, and whether it was there already."""

    model: str
    export: GraphExport
    reused: bool


@dataclass(frozen=True)
class ExportRecord:
    """What `write_repository` wrote or found up to date; `num_tables` by scheduler."""

    base: str
    base_digest: str
    repository_dir: Path
    graphs: tuple[GraphOutcome, ...]
    num_tables: dict[str, int]
    seconds: float


def write_repository(
    base: Base, repository_dir: Path, progress: Callable[[str], None] = lambda line: None
) -> ExportRecord:
    """Write or bring up to date the model repository of `base`.

    A model whose source has not changed is left as it is. `progress` gets a line before each stage.
    Raises `NotExportable` for a base that cannot be served, `RepositoryError` for a repository
    that holds policies of another base, and `ParityError`.
    """
    started = time.perf_counter()
    _check_same_base(base, repository_dir)
    base.check_shared_text_encoder()
    tokens = base.tokenizer().model_max_length
    scheduler = base.t2v_scheduler()
    unet = VideoUNetGraph.of(base.t2v_unet(), tokens, scheduler.config.num_train_timesteps)
    vae = VAEDecoderGraph.of(base.t2v_vae())
    progress("computing sampler tables")
    tables = sampler_tables(scheduler, base.spec.limits.num_inference_steps)
    graphs = (
        _base_encoder(base, repository_dir, progress),
        _graph(vae, base.t2v_vae(), graph_config(vae, vae.name), repository_dir, progress),
        _graph(unet, base.t2v_unet(), video_unet_config(unet), repository_dir, progress),
    )
    digests = {
        outcome.model: outcome.export.sha256 for outcome in graphs if outcome.model != _BASE_ENCODER
    }
    write_text_to_video(base, unet, vae, tables, digests, repository_dir)
    _write_first_policies(repository_dir)
    return ExportRecord(
        base=base.name,
        base_digest=base.digest(),
        repository_dir=repository_dir,
        graphs=graphs,
        num_tables={name: len(by_steps) for name, by_steps in tables.items()},
        seconds=round(time.perf_counter() - started, 3),
    )


def _graph(
    graph: Graph, model: Any, config: Any, repository_dir: Path, progress: Callable[[str], None]
) -> GraphOutcome:
    model_dir = repository_dir / graph.name
    version_dir = model_dir / str(VERSION)
    with locked(model_dir):
        export = read_export(version_dir)
        reused = export is not None and export.source_digest == source_digest(graph, model)
        if export is None or not reused:
            progress(f"exporting {graph.name}")
            with new_folder(version_dir, replace=True) as folder:
                export = export_version(graph, model, folder)
        write_file(model_dir / "config.pbtxt", pbtxt(config).encode())
    return GraphOutcome(graph.name, export, reused)


def _base_encoder(
    base: Base, repository_dir: Path, progress: Callable[[str], None]
) -> GraphOutcome:
    text_encoder = base.text_encoder()
    model_dir = repository_dir / _BASE_ENCODER
    version_dir = model_dir / str(VERSION)
    with locked(model_dir):
        export = read_export(version_dir)
        wanted = source_digest(text_encoder_graph(base), text_encoder)
        complete = all((version_dir / name).is_file() for name in (REVISION_FILE, GOLDEN_FILE))
        reused = export is not None and complete and export.source_digest == wanted
        if export is None or not reused:
            progress(f"exporting {_BASE_ENCODER}")
            with new_folder(version_dir, replace=True) as folder:
                export = fill_revision(folder, VERSION, text_encoder, BASE_POLICY, (), base, ())
        write_encoder_config(text_encoder, BASE_POLICY, base, repository_dir)
    return GraphOutcome(_BASE_ENCODER, export, reused)


def _check_same_base(base: Base, repository_dir: Path) -> None:
    """Revisions of another base would be served with this one's video model: refuse."""
    for record_file in sorted(repository_dir.glob(f"{encoder_model('*')}/*/{REVISION_FILE}")):
        try:
            record = json.loads(record_file.read_bytes())
            policy, digest = record["policy"], record["base_digest"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RepositoryError(f"{record_file} cannot be read: {error}") from error
        if policy != BASE_POLICY and digest != base.digest():
            raise RepositoryError(
                f"{repository_dir} holds revisions of the policy {policy!r} made from another base "
                f"than {base.name}; export to another folder with --repository"
            )


def _write_first_policies(repository_dir: Path) -> None:
    file = repository_dir / POLICIES_FILE
    if file.exists():
        return
    first = {"active": VERSION, "eligible": [VERSION], "history": [VERSION]}
    content = {"schema_version": 1, "default_policy": None, "policies": {BASE_POLICY: first}}
    write_file(file, (json.dumps(content, indent=2) + "\n").encode())
