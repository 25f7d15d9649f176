"""How fast and how exact each engine is: one denoising step and whole clips, on four bases.

Every engine has a process of its own, alive and idle while the others have their turn. The turns
come in random order, so that a drift of the machine's speed hits all of them, and every ratio is
taken within a turn. The exports come from the code of `unsee export`; weights of the middle size
are random, so frames are compared on the embedded base alone.

    python -m benchmarks.engines.compare --turns 3 --size playground
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.engines.accuracy import (
    StepError,
    frames_db,
    judged,
    playground_judge,
    playground_questions,
    step_error,
)
from benchmarks.engines.turns import (
    Peak,
    has_matrix_units,
    job_of,
    machine_facts,
    open_all,
    rows_of,
    take_turns,
)
from benchmarks.engines.variants import VARIANTS, YARDSTICK, Call, Runner
from benchmarks.measuring.bases import (
    BASES,
    CACHE_DIR,
    MIDDLE,
    MIDDLE_WAN,
    PLAYGROUND_WAN,
    Exported,
    export_base,
)
from benchmarks.measuring.flops import base_flops
from benchmarks.measuring.in_process import all_cores, chosen_engine
from benchmarks.measuring.processes import KeptProcess, ProcessFailed, in_own_process
from benchmarks.measuring.record import as_json, say, write_option, write_record
from unsee.cli.parameters import NEW_FOLDER
from unsee.models.base import load_base
from unsee.playground.training.program import exit_code_of

SEED = 7
NUM_PROMPTS = 4
PROMPT = "a video"
_TURNS = {"playground": 7, MIDDLE: 5, PLAYGROUND_WAN: 7, MIDDLE_WAN: 5}
_CLIP_TURNS = {"playground": 5, MIDDLE: 2, PLAYGROUND_WAN: 5, MIDDLE_WAN: 2}


@click.command()
@click.option(
    "--size",
    "sizes",
    type=click.Choice(list(BASES)),
    multiple=True,
    default=list(BASES),
    help="Repeat it for several; all by default.",
)
@click.option(
    "--engine",
    "engines",
    type=click.Choice(list(VARIANTS)),
    multiple=True,
    default=list(VARIANTS),
    help=f"Repeat it for several; all by default. {YARDSTICK} is always measured.",
)
@click.option("--turns", type=click.IntRange(min=1), help="[default: 7, of random weights 5]")
@click.option("--threads", type=click.IntRange(min=1), help="[default: as many as there are cores]")
@click.option("--judge", "num_judged", type=click.IntRange(min=0), default=32, show_default=True)
@click.option("--seed", type=int, default=SEED, show_default=True, help="Of the turns' order.")
@write_option
@click.option("--cache", "cache_dir", type=NEW_FOLDER, default=CACHE_DIR)
def engines(
    sizes: Sequence[str],
    engines: Sequence[str],
    turns: int | None,
    threads: int | None,
    num_judged: int,
    seed: int,
    write: bool,
    cache_dir: Path,
) -> None:
    """Time the engines in turn, and print as JSON what each takes and costs in accuracy."""
    names = [name for name in VARIANTS if name == YARDSTICK or name in engines]
    wanted = dict.fromkeys((*sizes, *map(embedded_like, sizes)))
    exports = {size: _export(size, cache_dir) for size in wanted}
    records: dict[str, Any] = {}
    for size in dict.fromkeys(sizes):
        chosen = chosen_engine(exports[embedded_like(size)].repository_dir)
        plan = Plan(
            size=size,
            exported=exports[size],
            cache_dir=cache_dir,
            engines=names,
            served=str(chosen("video_denoiser")),
            threads=threads or all_cores(),
            turns=turns or _TURNS[size],
            clip_turns=min(turns or _CLIP_TURNS[size], _CLIP_TURNS[size]),
            num_judged=num_judged if size == embedded_like(size) else 0,
            seed=seed,
        )
        records[size] = measure(plan)
        if write:
            write_record(f"{record_folder()}/engines-{size}", records[size])
    click.echo(as_json(records), nl=False)


def record_folder() -> str:
    """Where the records of this kind of machine are kept, relative to docs/measured."""
    return "performance" if has_matrix_units() else "performance/without_matrix_units"


def embedded_like(size: str) -> str:
    """The embedded base whose networks are of this one's kind."""
    return PLAYGROUND_WAN if size in (PLAYGROUND_WAN, MIDDLE_WAN) else "playground"


@dataclass(frozen=True)
class Plan:
    """What is measured at one size; `served` is the engine that the export chose here."""

    size: str
    exported: Exported
    cache_dir: Path
    engines: Sequence[str]
    served: str
    threads: int
    turns: int
    clip_turns: int
    num_judged: int
    seed: int


def measure(plan: Plan) -> dict[str, Any]:
    """All figures of one size, as JSON has them. Raises `ClickException` without the yardstick."""
    base = load_base(plan.exported.base_dir)
    clip = base.spec.clip
    steps = clip.num_inference_steps
    prompts = base.prompts()[:NUM_PROMPTS] or (PROMPT,)
    has_meaning = bool(base.prompts())
    table = base_flops(plan.exported.base_dir)
    step_flops, clip_flops = table.of_clip_call("video_denoiser"), table.of_clip(steps)
    with ExitStack() as stack:
        say(f"{plan.size}: opening {len(plan.engines)} engines")
        jobs = {n: job_of(n, plan.exported, plan.threads, plan.cache_dir) for n in plan.engines}
        opened, failures = open_all(stack, jobs, Runner)
        open_s = _open(opened, failures, prompts[0])
        if YARDSTICK not in opened:
            raise click.ClickException(f"{YARDSTICK} gave no result: {failures[YARDSTICK]}")
        say(f"{plan.size}: errors")
        calls = opened[YARDSTICK].call("calls", prompts[0], plan.seed, steps)
        errors = _errors(opened, calls)
        decibels = frames_db(opened, prompts, plan.seed, steps) if has_meaning else {}
        peak = stack.enter_context(KeptProcess(Peak, plan.threads))
        seconds, best = take_turns(
            opened,
            peak,
            calls[0].feeds,
            (prompts[0], plan.seed, steps),
            (plan.turns, plan.clip_turns),
            plan.seed,
            lambda line: say(f"{plan.size}: {line}"),
        )
        seen = _judge(plan, opened, steps)
    rows = rows_of(seconds, errors, decibels, open_s, step_flops, best)
    return {
        "size": plan.size,
        "machine": machine_facts(),
        "threads": plan.threads,
        "turns": plan.turns,
        "clip_turns": plan.clip_turns,
        "seed": plan.seed,
        "served": plan.served,
        "clip": clip.model_dump(),
        "parameters": sum(p.numel() for p in base.t2v_denoiser().parameters()),
        "step_flops": step_flops,
        "clip_flops": clip_flops,
        "peak_flops": best,
        "rows": rows,
        "failures": failures,
        "judged": seen,
        "num_judged": plan.num_judged,
    }


def _export(size: str, cache_dir: Path) -> Exported:
    say(f"{size}: its export, unless it is there")
    return in_own_process(export_base, size, cache_dir)


def _open(
    opened: dict[str, KeptProcess], failures: dict[str, str], prompt: str
) -> dict[str, float]:
    """Seconds until each engine's first clip; those that make none move to `failures`."""
    taken: dict[str, float] = {}
    for name, engine in list(opened.items()):
        try:
            taken[name] = engine.call("open", prompt, 1)
            say(f"  {name}: {taken[name]:.1f} s")
        except ProcessFailed as failed:
            failures[name] = str(failed)
            opened.pop(name).close()
    return taken


def _errors(opened: Mapping[str, KeptProcess], calls: Sequence[Call]) -> dict[str, StepError]:
    feeds, exact = [call.feeds for call in calls], [call.output for call in calls]
    return {
        name: step_error(exact if name == YARDSTICK else engine.call("outputs", feeds), exact)
        for name, engine in opened.items()
    }


def _judge(plan: Plan, opened: Mapping[str, KeptProcess], steps: int) -> dict[str, Any]:
    if not plan.num_judged or plan.served not in opened:
        return {}
    judge, categories = playground_judge()
    questions = playground_questions(plan.num_judged, plan.seed)
    exact, served = opened[YARDSTICK], opened[plan.served]
    return judged(exact, served, questions, judge, categories, steps, say)


if __name__ == "__main__":
    sys.exit(exit_code_of(engines))
