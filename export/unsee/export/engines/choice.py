"""Which engine computes which exported graph, decided by what is measured on this machine.

The graphs are decided one after the other. An engine is judged by the frames of a whole clip, which
are made with the engines that were chosen before it; so what is chosen in the end was judged as a
whole.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unsee.core.errors import NotExportable, first_line
from unsee.core.files import write_json
from unsee.export.engines.engine import (
    ALL_ENGINES,
    AUTO,
    ONNXRUNTIME,
    Engine,
    candidates,
    obstacle,
)
from unsee.export.engines.machine import Machine
from unsee.export.engines.measurement import Feeds, Remembered, compare
from unsee.export.engines.record import (
    LEAST_PSNR_DB,
    Candidate,
    EngineChoice,
    EngineSelection,
    GraphChoice,
    read_choice,
)
from unsee.export.engines.session import Runnable

MARGIN = 1.1
"""How many times as fast an engine must be to be preferred to a simpler one."""

Runnables = Mapping[str, Runnable]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class MeasuredGraph:
    """A graph to choose an engine for: its digest, the sizes of a clip's calls, inputs of them.

    `open` gives the graph as computed by an engine and raises `NotExportable` if it cannot be.
    """

    name: str
    digest: str
    sizes: Mapping[str, int]
    feeds: Callable[[], Feeds]
    open: Callable[[Engine], Runnable]


@dataclass(frozen=True)
class ClipComparison:
    """How frames are compared; `others` are the graphs that need no choice, in float32.

    `psnr_db(run, reference, seconds)` makes a clip's frames both ways and compares them; `seconds`
    is what a call of the first measured graph takes. It raises `NotExportable` if `run` makes none.
    """

    others: Runnables
    psnr_db: Callable[[Runnables, Runnables, float], float]


def choose_engines(
    graphs: Sequence[MeasuredGraph],
    selection: EngineSelection,
    machine: Machine,
    comparison: Callable[[], ClipComparison],
    progress: Progress = lambda line: None,
) -> EngineChoice:
    """Choose an engine for every graph; nothing is measured where there is nothing to compare.

    TensorRT is only ever selected by name and is not measured here. Raises `NotExportable` where
    nothing meets the selection.
    """
    engines = candidates(selection.engine, selection.precision, machine)
    started = time.perf_counter()
    if engines == (ONNXRUNTIME,) or engines[0].name == "tensorrt":
        reason = _only_reason(selection, machine)
        chosen = {graph.name: _choice(graph, str(engines[0]), reason, ()) for graph in graphs}
    else:
        chosen = _measured_choices(graphs, engines, comparison(), progress)
    return EngineChoice(
        machine=machine,
        selection=selection,
        graphs=chosen,
        seconds=round(time.perf_counter() - started, 3),
        created_at=datetime.now(UTC),
    )


def found_or_chosen(
    file: Path,
    graphs: Sequence[MeasuredGraph],
    selection: EngineSelection,
    machine: Machine,
    comparison: Callable[[], ClipComparison],
    progress: Progress,
) -> tuple[EngineChoice, bool]:
    """The choice in `file` if it still holds, and True; else a new one, written there, and False.

    Raises what `choose_engines` raises.
    """
    found = read_choice(file)
    needed = {graph.name: (graph.digest, dict(graph.sizes)) for graph in graphs}
    if found is not None and found.holds_for(needed, selection, machine):
        return found, True
    choice = choose_engines(graphs, selection, machine, comparison, progress)
    write_json(file, choice)
    return choice, False


def pick(measured: Sequence[Candidate]) -> Candidate:
    """The first, i.e. the simplest, that fits and is nearly as fast as the fastest that fits.

    Raises `NotExportable` if none fits.
    """
    fitting = [candidate for candidate in measured if candidate.fits]
    if not fitting:
        reasons = "; ".join(_against(candidate) for candidate in measured)
        raise NotExportable(f"{reasons}; choose --engine {ONNXRUNTIME.name}")
    fastest = max(candidate.speedup for candidate in fitting)
    return next(candidate for candidate in fitting if candidate.speedup * MARGIN >= fastest)


def _measured_choices(
    graphs: Sequence[MeasuredGraph],
    engines: Sequence[Engine],
    comparison: ClipComparison,
    progress: Progress,
) -> dict[str, GraphChoice]:
    """Measure every engine on one graph after the other; each choice is kept for the next graph."""
    simple = {graph.name: graph.open(ONNXRUNTIME) for graph in graphs}
    reference = {name: Remembered(run) for name, run in (simple | dict(comparison.others)).items()}
    chosen: dict[str, Runnable] = dict(reference)
    choices: dict[str, GraphChoice] = {}
    psnr_db: float | None = None
    call_s: float | None = None
    for graph in graphs:
        measured: list[Candidate] = []
        opened: dict[str, Runnable] = {}  # the last one alone: a large graph fills the memory
        for engine in engines:
            if engine == ONNXRUNTIME:
                measured.append(Candidate(engine=str(engine), psnr_db=psnr_db))
                continue
            progress(f"measuring {engine} on {graph.name}")
            opened.clear()
            candidate = _timed(graph, engine, reference[graph.name].run, measured, opened)
            if candidate.timing is not None and candidate.failure is None:
                call_s = call_s or candidate.timing.reference_seconds
                runs = chosen | {graph.name: opened[str(engine)]}
                try:
                    frames = comparison.psnr_db(runs, reference, call_s)
                    found: dict[str, Any] = {"psnr_db": round(frames, 2)}
                except (NotExportable, RuntimeError) as error:
                    found = {"failure": f"{engine}: {first_line(error)}"}
                candidate = candidate.model_copy(update=found)
            measured.append(candidate)
        best = measured[0] if _is_selected(measured) else pick(measured)
        if best.engine != str(ONNXRUNTIME):
            run = opened.get(best.engine) or graph.open(Engine.of(best.engine))
            chosen[graph.name] = run
        psnr_db = best.psnr_db
        choices[graph.name] = _choice(graph, best.engine, _reason(best, measured), measured)
    return choices


def _timed(
    graph: MeasuredGraph,
    engine: Engine,
    reference: Runnable,
    before: Sequence[Candidate],
    opened: dict[str, Runnable],
) -> Candidate:
    """Open the engine in `opened` and time it; a `failure` if it cannot be run or is too slow.

    It is too slow if a simpler one that fits is as fast.
    """
    name = str(engine)
    try:
        opened[name] = graph.open(engine)
        timing = compare(opened[name], reference, graph.feeds())
    except (NotExportable, RuntimeError) as error:
        return Candidate(engine=name, failure=first_line(error))
    slow = any(other.fits and other.speedup >= timing.speedup for other in before)
    failure = f"{engine} is {timing.speedup:.2f} times as fast" if slow else None
    return Candidate(engine=name, timing=timing, failure=failure)


def _is_selected(measured: Sequence[Candidate]) -> bool:
    """Whether the selection left one engine only; raises `NotExportable` if that does not work."""
    if len(measured) == 1 and measured[0].failure is not None:
        raise NotExportable(f"{measured[0].failure}; choose another with --engine")
    return len(measured) == 1


def _choice(
    graph: MeasuredGraph, engine: str, reason: str, measured: Sequence[Candidate]
) -> GraphChoice:
    return GraphChoice(
        graph_digest=graph.digest,
        sizes=dict(graph.sizes),
        engine=engine,
        reason=reason,
        candidates=tuple(measured),
    )


def _only_reason(selection: EngineSelection, machine: Machine) -> str:
    if (selection.engine, selection.precision) != (AUTO, AUTO):
        return "asked for"
    others = [e for e in ALL_ENGINES if e.name not in (ONNXRUNTIME.name, "tensorrt")]
    reasons = dict.fromkeys(filter(None, (obstacle(engine, machine) for engine in others)))
    return f"the only one here: {'; '.join(reasons)}"


def _reason(best: Candidate, measured: Sequence[Candidate]) -> str:
    frames = _frames(best)
    if len(measured) == 1:
        return f"asked for; {_speed(best)}, {frames}"
    if best.timing is not None:
        return f"{_speed(best)}, {frames}"
    rivals = [_against(candidate) for candidate in measured if candidate is not best]
    return f"nothing that fits is faster by {MARGIN - 1:.0%}: {'; '.join(rivals)}"


def _against(candidate: Candidate) -> str:
    if candidate.failure is not None:
        return candidate.failure
    words = f"{candidate.engine} is {_speed(candidate)}, {_frames(candidate)}"
    return words if candidate.fits else f"{words} (at least {LEAST_PSNR_DB:g} dB are wanted)"


def _speed(candidate: Candidate) -> str:
    return f"{candidate.speedup:.2f} times as fast as {ONNXRUNTIME}"


def _frames(candidate: Candidate) -> str:
    same = candidate.psnr_db is None
    return "the same frames" if same else f"frames {candidate.psnr_db:.1f} dB from float32's"
