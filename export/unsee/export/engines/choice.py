"""Which engine computes which exported graph, decided by what was measured on this machine.

Knows the rule of the choice and its record, `engines.json`; how an engine is timed is elsewhere,
and so is what becomes of a choice.

The graphs are decided one after the other: the frames that an engine is judged by are made with
those chosen before it, so what is chosen in the end has been judged as a whole.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from unsee.core.errors import NotExportable
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
from unsee.export.engines.measurement import Feeds, Remembered, Timing, compare
from unsee.export.engines.session import Runnable

ENGINES_FILE = "engines.json"
LEAST_PSNR_DB = 35.0
"""Frames that differ more from float32's are not the same clip to the eye."""
MARGIN = 1.1
"""How many times as fast an engine must be to be preferred to a simpler one."""

Runnables = Mapping[str, Runnable]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Wish(_Record):
    """What the caller asks for: an engine and a precision, each by name or "auto"."""

    engine: str = AUTO
    precision: str = AUTO


MEASURED = Wish()
"""Whatever is best on this machine."""


class Candidate(_Record):
    """What was measured of an engine on a graph; `failure` is why its frames were not compared.

    `psnr_db` is of the frames of one whole clip against float32's, with what was chosen for other
    graphs before; None where all is float32's own.
    """

    engine: str
    timing: Timing | None = None
    psnr_db: float | None = None
    failure: str | None = None

    @property
    def speedup(self) -> float:
        """How many times as fast as ONNX Runtime in float32, which is what is not timed."""
        return 1.0 if self.timing is None else self.timing.speedup

    @property
    def fits(self) -> bool:
        """Whether it works and its frames are float32's to the eye."""
        exact = self.psnr_db is None or self.psnr_db >= LEAST_PSNR_DB
        return self.failure is None and exact


class GraphChoice(_Record):
    """The engine of one graph and why; `sizes` are those of the calls that were timed."""

    graph_digest: str
    sizes: dict[str, int]
    engine: str
    reason: str
    candidates: tuple[Candidate, ...]


class EngineChoice(_Record):
    """The content of `engines.json`; `seconds` is how long the measurements took."""

    schema_version: Literal[1] = 1
    machine: Machine
    wish: Wish
    graphs: dict[str, GraphChoice]
    seconds: float
    created_at: datetime

    def engine(self, graph: str) -> Engine:
        """The engine chosen for a graph."""
        return Engine.of(self.graphs[graph].engine)


@dataclass(frozen=True)
class Subject:
    """A graph to be decided: its digest, the sizes of a clip's calls, and example inputs of them.

    `open` gives the graph as computed by an engine and raises `NotExportable` if it cannot be.
    """

    name: str
    digest: str
    sizes: Mapping[str, int]
    feeds: Callable[[], Feeds]
    open: Callable[[Engine], Runnable]


@dataclass(frozen=True)
class Judge:
    """`others` are the graphs that are not decided, computed in float32.

    `psnr_db(run, reference, seconds)` makes a clip's frames both ways and compares them; `seconds`
    is what a call of the first subject takes.
    """

    others: Runnables
    psnr_db: Callable[[Runnables, Runnables, float], float]


def choose_engines(
    subjects: Sequence[Subject],
    wish: Wish,
    machine: Machine,
    judge: Callable[[], Judge],
    progress: Callable[[str], None] = lambda line: None,
) -> EngineChoice:
    """Decide every subject. Nothing is opened nor measured where there is nothing to compare.

    TensorRT, which is never one of several, is not measured here.

    Raises `NotExportable` where the wish cannot be met.
    """
    engines = candidates(wish.engine, wish.precision, machine)
    started = time.perf_counter()
    if engines == (ONNXRUNTIME,) or engines[0].name == "tensorrt":
        reason = _only_reason(wish, machine)
        graphs = {s.name: _choice(s, str(engines[0]), reason, ()) for s in subjects}
    else:
        graphs = _Comparison(subjects, judge(), progress).decide(engines)
    return EngineChoice(
        machine=machine,
        wish=wish,
        graphs=graphs,
        seconds=round(time.perf_counter() - started, 3),
        created_at=datetime.now(UTC),
    )


def found_or_chosen(
    file: Path,
    subjects: Sequence[Subject],
    wish: Wish,
    machine: Machine,
    judge: Callable[[], Judge],
    progress: Callable[[str], None],
) -> tuple[EngineChoice, bool]:
    """The choice in `file` if it still holds, and True; else a new one, written there, and False.

    Raises what `choose_engines` raises.
    """
    found = read_choice(file)
    if found is not None and still_holds(found, subjects, wish, machine):
        return found, True
    choice = choose_engines(subjects, wish, machine, judge, progress)
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


def read_choice(file: Path) -> EngineChoice | None:
    """The record in `file`, None if there is none or it cannot be understood."""
    try:
        return EngineChoice.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None


def still_holds(
    choice: EngineChoice, subjects: Sequence[Subject], wish: Wish, machine: Machine
) -> bool:
    """Whether the choice was made for these graphs and this wish on this machine."""
    decided = {name: (c.graph_digest, c.sizes) for name, c in choice.graphs.items()}
    asked = {subject.name: (subject.digest, dict(subject.sizes)) for subject in subjects}
    return (choice.wish, choice.machine, decided) == (wish, machine, asked)


class _Comparison:
    """Measures each engine on each subject, keeping two graphs open at most beside the chosen."""

    def __init__(
        self, subjects: Sequence[Subject], judge: Judge, progress: Callable[[str], None]
    ) -> None:
        self._subjects, self._judge, self._progress = subjects, judge, progress
        computed = {subject.name: subject.open(ONNXRUNTIME) for subject in subjects}
        self._reference = {
            name: Remembered(run) for name, run in (computed | dict(judge.others)).items()
        }
        self._chosen: dict[str, Runnable] = dict(self._reference)
        self._psnr_db: float | None = None
        self._call_s: float | None = None

    def decide(self, engines: Sequence[Engine]) -> dict[str, GraphChoice]:
        return {subject.name: self._decide(subject, engines) for subject in self._subjects}

    def _decide(self, subject: Subject, engines: Sequence[Engine]) -> GraphChoice:
        measured: list[Candidate] = []
        opened: dict[str, Runnable] = {}
        for engine in engines:
            opened.clear()
            measured.append(self._measure(subject, engine, measured, opened))
        best = measured[0] if _was_asked_for(measured) else pick(measured)
        if best.engine != str(ONNXRUNTIME):
            run = opened.get(best.engine) or subject.open(Engine.of(best.engine))
            self._chosen[subject.name] = run
        self._psnr_db = best.psnr_db
        return _choice(subject, best.engine, _reason(best, measured), measured)

    def _measure(
        self,
        subject: Subject,
        engine: Engine,
        before: Sequence[Candidate],
        opened: dict[str, Runnable],
    ) -> Candidate:
        """Time the engine and, unless a simpler one is as fast, compare its frames."""
        name = str(engine)
        if engine == ONNXRUNTIME:
            return Candidate(engine=name, psnr_db=self._psnr_db)
        self._progress(f"measuring {engine} on {subject.name}")
        try:
            run = subject.open(engine)
            timing = compare(run, self._reference[subject.name].run, subject.feeds())
        except (NotExportable, RuntimeError) as error:
            return Candidate(engine=name, failure=_first_line(error))
        if any(other.fits and other.speedup >= timing.speedup for other in before):
            failure = f"{engine} is {timing.speedup:.2f} times as fast"
            return Candidate(engine=name, timing=timing, failure=failure)
        self._call_s = self._call_s or timing.reference_seconds
        chosen = self._chosen | {subject.name: run}
        frames = self._judge.psnr_db(chosen, self._reference, self._call_s)
        opened[name] = run
        return Candidate(engine=name, timing=timing, psnr_db=round(frames, 2))


def _was_asked_for(measured: Sequence[Candidate]) -> bool:
    """Whether there is no choice; raises `NotExportable` if what is left does not work."""
    if len(measured) == 1 and measured[0].failure is not None:
        raise NotExportable(f"{measured[0].failure}; choose another with --engine")
    return len(measured) == 1


def _choice(
    subject: Subject, engine: str, reason: str, measured: Sequence[Candidate]
) -> GraphChoice:
    return GraphChoice(
        graph_digest=subject.digest,
        sizes=dict(subject.sizes),
        engine=engine,
        reason=reason,
        candidates=tuple(measured),
    )


def _only_reason(wish: Wish, machine: Machine) -> str:
    if wish.engine != AUTO or wish.precision != AUTO:
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


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
