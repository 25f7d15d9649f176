"""Measures engines in turn, each once a turn in an order drawn anew; a row of figures each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.engines.accuracy import Process, StepError
from benchmarks.engines.variants import VARIANTS, YARDSTICK, Job
from benchmarks.measuring.bases import CACHE_DIR, Exported
from benchmarks.measuring.flops import peak_flops
from benchmarks.measuring.processes import KeptProcess, ProcessFailed
from benchmarks.measuring.timing import Spread, in_random_turns, times_faster
from unsee.export.engines.machine import this_machine
from unsee.export.engines.measurement import Feeds

LEAST_STEP_S = 0.3
"""So long at least an engine's step is repeated within a turn."""
_MATMUL_EDGE = 2048
PRECISIONS = ("float32", "bfloat16")
PEAK = "the machine's peak"
"""Takes its turn beside the engines; no engine is called so."""


@dataclass
class Seconds:
    """What one engine took, one value a turn."""

    step: list[float] = field(default_factory=list)
    clip: list[float] = field(default_factory=list)


class Peak:
    """The machine's fastest product of two matrices, measured anew at every call."""

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def flops(self) -> dict[str, float]:
        """Operations a second by precision."""
        cpu = torch.device("cpu")
        return {p: peak_flops(cpu, getattr(torch, p), _MATMUL_EDGE) for p in PRECISIONS}


def machine_facts() -> dict[str, Any]:
    """This machine and the versions of what runs on it, as JSON has them."""
    facts = this_machine().model_dump()
    return facts | {"versions": {"torch": torch.__version__, **facts["versions"]}}


def has_matrix_units() -> bool:
    """Whether the CPU multiplies small matrices in bfloat16 by units of its own (Intel's AMX)."""
    try:
        return " amx_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False


def job_of(variant: str, exported: Exported, threads: int, cache_dir: Path = CACHE_DIR) -> Job:
    """The variant on an export; what `torch.compile` compiles is kept below `cache_dir`."""
    inductor_dir = cache_dir / "inductor"
    return Job(variant, exported.base_dir, exported.repository_dir, threads, inductor_dir)


def open_all(
    stack: ExitStack, jobs: Mapping[str, Any], make: Callable[[Any], Any]
) -> tuple[dict[str, KeptProcess], dict[str, str]]:
    """A process for each job, kept until `stack` ends, and why a job has none."""
    opened: dict[str, KeptProcess] = {}
    failures: dict[str, str] = {}
    for name, job in jobs.items():
        try:
            opened[name] = stack.enter_context(KeptProcess(make, job))
        except ProcessFailed as failed:
            failures[name] = str(failed)
    return opened, failures


def take_turns(
    engines: Mapping[str, Process],
    peak: Process,
    feeds: Feeds,
    clip: tuple[str, int, int],
    turns: tuple[int, int],
    seed: int,
    say: Callable[[str], None],
) -> tuple[dict[str, Seconds], dict[str, float]]:
    """Each engine's seconds, and the best that the machine showed in any turn.

    A step is a call of the video denoiser with `feeds`; `clip` is the prompt, the seed and the
    steps of a whole one. `turns` are those of steps and of clips. Every engine must have made a
    clip before: what its first call takes does not count.
    """
    best = Best(peak)
    ways: dict[str, Callable[[], float]] = {
        name: partial(engine.call, "step_seconds", feeds, _repeats(engine, feeds))
        for name, engine in engines.items()
    }
    steps = in_random_turns(
        ways | {PEAK: best.measure}, turns[0], seed, lambda line: say(f"steps, {line}")
    )
    clips = in_random_turns(
        {name: partial(_clip_seconds, engine, clip) for name, engine in engines.items()},
        turns[1],
        seed,
        lambda line: say(f"clips, {line}"),
    )
    return {name: Seconds(steps[name], clips[name]) for name in engines}, best.flops


class Best:
    """The best that the machine showed so far, in operations a second by precision."""

    def __init__(self, peak: Process) -> None:
        self.flops: dict[str, float] = {}
        self._peak = peak

    def measure(self) -> float:
        """Measure once more."""
        for precision, flops in self._peak.call("flops").items():
            self.flops[precision] = max(flops, self.flops.get(precision, 0.0))
        return self.flops[PRECISIONS[0]]


def _clip_seconds(engine: Process, clip: tuple[str, int, int]) -> float:
    seconds: float = engine.call("clip", *clip)[0]
    return seconds


def _repeats(engine: Process, feeds: Feeds) -> int:
    seconds: float = engine.call("step_seconds", feeds, 1)
    return max(1, math.ceil(LEAST_STEP_S / seconds))


SAME_ERROR = 1e-4
"""Errors below this (of a standard deviation) are float32's own rounding and count as equal."""


def rows_of(
    seconds: Mapping[str, Seconds],
    errors: Mapping[str, StepError],
    decibels: Mapping[str, Mapping[str, float]],
    open_s: Mapping[str, float],
    step_flops: int,
    peak_flops: Mapping[str, float],
) -> list[dict[str, Any]]:
    """A row per engine, in the order of `seconds`, which are of a guided step and of a whole clip.

    `open_s` is until its first clip of one step; `rival` is the fastest `torch.compile` that is at
    least as exact, None if there is none; `share_of_peak` is a step's.
    """
    eager = seconds[YARDSTICK]
    rows = []
    for name, own in seconds.items():
        variant, rival = VARIANTS[name], rival_of(name, seconds, errors)
        step_s = Spread.of(own.step)
        rows.append(
            {
                "engine": name,
                "label": variant.label,
                "precision": variant.precision,
                "open_s": open_s[name],
                "step_s": asdict(step_s),
                "clip_s": asdict(Spread.of(own.clip)) if own.clip else None,
                **_times("eager", eager, own),
                "rival": rival,
                **_times("rival", seconds[rival] if rival else None, own),
                "error": asdict(errors[name]),
                "psnr_db": decibels.get(name, {}),
                "share_of_peak": step_flops / step_s.median / peak_flops[variant.precision],
            }
        )
    return rows


def _times(name: str, theirs: Seconds | None, ours: Seconds) -> dict[str, Any]:
    """How many times as fast as another engine, turn by turn; None without it or without clips."""
    step = clip = None
    if theirs is not None:
        step = asdict(times_faster(theirs.step, ours.step))
        clip = asdict(times_faster(theirs.clip, ours.clip)) if ours.clip else None
    return {f"step_times_{name}": step, f"clip_times_{name}": clip}


def rival_of(
    name: str, seconds: Mapping[str, Seconds], errors: Mapping[str, StepError]
) -> str | None:
    """The fastest `torch.compile` whose error is no larger; None for `torch.compile` itself."""
    if VARIANTS[name].is_torch_compile:
        return None
    allowed = max(errors[name].rms, SAME_ERROR)
    rivals = [
        other
        for other in seconds
        if VARIANTS[other].is_torch_compile and errors[other].rms <= allowed
    ]
    return min(rivals, key=lambda rival: Spread.of(seconds[rival].step).median, default=None)
