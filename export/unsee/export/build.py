"""The model repository of a base: every model that Triton loads, from one base folder.

What has not changed since the last export stays as it is.

    text_encoder/1   video_denoiser/1   vae_decoder/1   policy_base/1
    prompt_encoder/   text_to_video/   policies.json   engines.json
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unsee.core.errors import Locked, RepositoryError
from unsee.core.files import lock, locked, new_folder, write_file
from unsee.core.policy import BASE_POLICY
from unsee.deltas.edit import trunk
from unsee.export.clip_memory import ClipMemory, clip_memory, known_bytes
from unsee.export.engines.choice import found_or_chosen
from unsee.export.engines.engine import candidates, graph_precision
from unsee.export.engines.machine import this_machine
from unsee.export.engines.model_config import batched_config, pbtxt
from unsee.export.engines.record import MEASURED, EngineChoice, EngineSelection
from unsee.export.graphs.base_graphs import edit_graph, sampling_graphs
from unsee.export.graphs.graphs import Graph
from unsee.export.measured_graphs import ExportedGraph, clip_comparison, measured_graph
from unsee.export.onnx.half import in_float32
from unsee.export.revision import Contents, part_of, write_config
from unsee.export.service import write_service
from unsee.export.text_to_video.assets import write_prompt_encoder, write_text_to_video
from unsee.export.text_to_video.sampler_tables import sampler_tables
from unsee.export.version import export_once, find_export
from unsee.models.base import Base
from unsee.models.check import require
from unsee.models.schedulers import SchedulerOffer, offered_schedulers
from unsee.repository import pointer
from unsee.repository.layout import (
    CONFIG_FILE,
    ENGINES_FILE,
    GOLDEN_FILE,
    LOCKS_DIR,
    POINTER_FILE,
    REVISION_FILE,
    VERSION,
    base_file,
    policy_dirs,
    policy_model,
    version_dir,
)
from unsee.repository.ledger import replace_pointer
from unsee.repository.records import (
    GraphExport,
    GraphPrecision,
    Policies,
    PolicyState,
    RevisionRecord,
    read_record,
)
from unsee.repository.revisions import versions_on_disk

_BASE_MODEL = policy_model(BASE_POLICY)


@dataclass(frozen=True)
class GraphOutcome:
    """One model of the repository: its export, and whether it was there already."""

    model: str
    export: GraphExport
    reused: bool


@dataclass(frozen=True)
class ExportRecord:
    """What `write_repository` wrote or found up to date; `num_tables` by scheduler of the `offer`.

    `engines` says what computes the graphs and why, `engines_reused` whether it said so before.
    """

    base: str
    base_digest: str
    repository_dir: Path
    graphs: tuple[GraphOutcome, ...]
    offer: SchedulerOffer
    num_tables: dict[str, int]
    engines: EngineChoice
    engines_reused: bool
    clip_memory: ClipMemory
    seconds: float


def write_repository(
    base: Base,
    repository_dir: Path,
    progress: Callable[[str], None] = lambda line: None,
    selection: EngineSelection = MEASURED,
) -> ExportRecord:
    """Write or bring up to date the model repository of `base`.

    A model whose source has not changed is left as it is, and so is a choice of engines that was
    made for these graphs, this selection and this machine. `progress` gets a line before each
    stage. Raises `NotExportable` for a base that cannot be served or a selection that nothing here
    meets, `RepositoryError` for a repository that holds policies of another base or is served,
    `ParityError`.
    """
    started = time.perf_counter()
    _check_same_base(base, repository_dir)
    if repository_dir.is_dir():
        with at_work(repository_dir):
            pass  # what is served is refused before anything is loaded
    for note in require(base):
        progress(note)
    offer = offered_schedulers(base)
    machine = this_machine()
    precision = graph_precision(candidates(selection.engine, selection.precision, machine))
    text_encoder, denoiser, decoders = sampling_graphs(base)
    progress("computing sampler tables")
    tables = sampler_tables(offer.offered, base.spec.limits.num_inference_steps)
    with at_work(repository_dir):
        _check_same_base(base, repository_dir)
        outcomes = (
            _text_encoder(text_encoder, base, repository_dir, progress),
            _base_policy(base, repository_dir, progress),
            _graph(denoiser, base.t2v_denoiser(), precision, repository_dir, progress),
            *(_graph(one, base.t2v_vae(), precision, repository_dir, progress) for one in decoders),
        )
        config = batched_config(text_encoder)
        write_file(repository_dir / text_encoder.name / CONFIG_FILE, pbtxt(config))
        graphs: tuple[Graph, ...] = (text_encoder, edit_graph(base), denoiser, *decoders)
        encoder, policy, *chosen = (
            ExportedGraph(graph, version_dir(repository_dir, outcome.model), outcome.export.sha256)
            for graph, outcome in zip(graphs, outcomes, strict=True)
        )
        choice, reused = found_or_chosen(
            repository_dir / ENGINES_FILE,
            [measured_graph(exported, base, machine.threads) for exported in chosen],
            selection,
            machine,
            lambda: clip_comparison((encoder, policy), base, tables, machine.threads),
            progress,
        )
        for exported in chosen:
            model = base.t2v_denoiser() if exported.graph is denoiser else base.t2v_vae()
            write_service(exported, model, choice.engine(exported.graph.name), base, progress)
        computed_by = _computed_by(choice, encoder)
        progress("reckoning the memory of a clip at the limits")
        known = known_bytes(base_file(repository_dir), base, computed_by)
        memory = clip_memory(base, chosen, known)
        write_prompt_encoder(repository_dir)
        largest = memory.num_bytes
        write_text_to_video(
            base, denoiser, decoders[0], tables, computed_by, largest, repository_dir
        )
        _write_first_policies(repository_dir)
    return ExportRecord(
        base=base.name,
        base_digest=base.digest(),
        repository_dir=repository_dir,
        graphs=outcomes,
        offer=offer,
        num_tables={name: len(by_steps) for name, by_steps in tables.items()},
        engines=choice,
        engines_reused=reused,
        clip_memory=memory,
        seconds=round(time.perf_counter() - started, 3),
    )


@contextmanager
def at_work(repository_dir: Path) -> Iterator[None]:
    """Be the only writer of a repository's graphs inside the block; another export is waited for.

    Raises `RepositoryError` if the repository is being served: a server would mix the graphs that
    it has open with those that it opens later.
    """
    with locked(repository_dir / LOCKS_DIR), ExitStack() as held:
        try:
            held.enter_context(lock(repository_dir, command="export"))
        except Locked as error:
            raise RepositoryError(
                f"{repository_dir} is being served; stop `unsee serve` first, or export to another "
                "folder with --repository"
            ) from error
        yield


def _graph(
    graph: Graph,
    model: Any,
    precision: GraphPrecision,
    repository_dir: Path,
    progress: Callable[[str], None],
) -> GraphOutcome:
    folder = version_dir(repository_dir, graph.name)
    said = f"exporting {graph.name}"
    export, reused = export_once(graph, model, folder, precision, lambda: progress(said))
    return GraphOutcome(graph.name, export, reused)


def _text_encoder(
    graph: Graph, base: Base, repository_dir: Path, progress: Callable[[str], None]
) -> GraphOutcome:
    """In float32; a copy of an encoder of half precision, gigabytes of it, is freed on return."""
    states = trunk(in_float32(base.text_encoder()))
    return _graph(graph, states, "float32", repository_dir, progress)


def _base_policy(base: Base, repository_dir: Path, progress: Callable[[str], None]) -> GraphOutcome:
    """The policy that unsees nothing: the text encoder's own final normalisation."""
    text_encoder = base.text_encoder()
    part = part_of(text_encoder, base)
    model_dir = repository_dir / _BASE_MODEL
    folder = version_dir(repository_dir, _BASE_MODEL)
    with locked(model_dir):
        complete = all((folder / name).is_file() for name in (REVISION_FILE, GOLDEN_FILE))
        found = find_export(part.graph, part.module, folder)
        export = found if complete else None
        if export is None:
            progress(f"exporting {_BASE_MODEL}")
            with new_folder(folder, replace=True) as new:
                export = Contents(text_encoder, part, BASE_POLICY).write(new, VERSION, base)
        write_config(part, model_dir)
    return GraphOutcome(_BASE_MODEL, export, reused=export is found)


def _check_same_base(base: Base, repository_dir: Path) -> None:
    """Revisions of another base would be served with this one's video model: refuse.

    So is a repository of another format.
    """
    if (repository_dir / POINTER_FILE).exists():
        pointer.read(repository_dir)
    remedy = "export to another folder with --repository"
    for policy, model_dir in policy_dirs(repository_dir).items():
        for revision in sorted(versions_on_disk(model_dir)):
            file = model_dir / str(revision) / REVISION_FILE
            if policy == BASE_POLICY or not file.exists():
                continue
            record = read_record(RevisionRecord, file, remedy, RepositoryError)
            if record.base_digest != base.digest():
                raise RepositoryError(
                    f"{repository_dir} holds revisions of the policy {policy!r} made from another "
                    f"base than {base.name}; {remedy}"
                )


def _computed_by(choice: EngineChoice, encoder: ExportedGraph) -> dict[str, str]:
    """Digest and engine of each graph, as they go into every clip's record."""
    digests = {name: graph.graph_digest for name, graph in choice.graphs.items()}
    digests[encoder.model] = encoder.digest
    return digests | {f"{name}_engine": graph.engine for name, graph in choice.graphs.items()}


def _write_first_policies(repository_dir: Path) -> None:
    if not (repository_dir / POINTER_FILE).exists():
        first = PolicyState().with_eligible(VERSION).with_active(VERSION)
        replace_pointer(repository_dir, Policies(policies={BASE_POLICY: first}))
