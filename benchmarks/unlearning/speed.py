"""What a step of unlearning costs at real size: seconds, memory, and how near the device's limit.

The yardstick is the paper's loop as one would write it down: float32 throughout, the images encoded
in every step, and gradients for all of the denoiser's weights. The variants take turns, each turn
in a process of its own, so that a drift of the machine's speed hits all of them and no more than
one is in memory; the ratio is taken turn by turn.

    python -m benchmarks.unlearning.speed --size sd1
"""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.measuring.processes import ProcessFailed, in_own_process
from benchmarks.measuring.real_size import SIZES, write_image_base
from benchmarks.measuring.record import as_json, say
from benchmarks.measuring.timing import times_faster
from benchmarks.unlearning.variants import VARIANTS, Job, Run, run
from unsee.core.unlearning_settings import AnchoredMode, PaperMode
from unsee.models.components import Precision
from unsee.playground.training.program import exit_code_of
from unsee.unlearning.anchored_mode import NUM_COUNTEREXAMPLES, NUM_HELD_OUT
from unsee.unlearning.moments import PROMPTS_PER_CALL
from unsee.unlearning.pictures import NUM_TRIALS

_YARDSTICK = "as-written"
_COMPARED = (_YARDSTICK, "paper", "anchored")
_MATMUL_EDGE = 4096
_TINY_MATMUL_EDGE = 256
_STEPS_PER_IMAGE = 25


@click.command()
@click.option("--size", type=click.Choice(list(SIZES)), default="sd1", show_default=True)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="bfloat16",
    show_default=True,
    help="Of our variants' denoiser and autoencoder.",
)
@click.option(
    "--variant",
    "variants",
    type=click.Choice(list(VARIANTS)),
    multiple=True,
    default=list(VARIANTS),
    help="Repeat it for several; all by default.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1, max=NUM_TRIALS),
    default=1,
    show_default=True,
    help="Pictures per step, the same in every variant.",
)
@click.option(
    "--pixels",
    type=click.IntRange(min=64),
    default=None,
    help="Edge of the pictures, a multiple of 64.  [default: 512, tiny: 64]",
)
@click.option("--turns", type=click.IntRange(min=1), default=2, show_default=True)
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Timed steps per turn, after two that are not.",
)
def unlearn(
    size: str,
    device: str,
    precision: Precision,
    variants: Sequence[str],
    batch_size: int,
    pixels: int | None,
    turns: int,
    repeats: int,
) -> None:
    """Time the steps of unlearning on a base of real size with random weights; print JSON."""
    pixels = SIZES[size].pixels if pixels is None else pixels
    if pixels % 64:
        raise click.BadParameter(f"{pixels} is not a multiple of 64", param_hint="--pixels")
    edge = _TINY_MATMUL_EDGE if size == "tiny" else _MATMUL_EDGE
    with tempfile.TemporaryDirectory(prefix="unsee-benchmark-") as folder:
        jobs = {
            name: Job(name, Path(folder), device, precision, batch_size, repeats, pixels, edge)
            for name in dict.fromkeys(variants)
        }
        say(f"writing a base of the size {size}")
        in_own_process(write_image_base, Path(folder), size, pixels)
        runs, failures = take_turns(jobs, turns)
    if not any(runs.values()):
        raise click.ClickException("; ".join(f"{name}: {why}" for name, why in failures.items()))
    rows = rows_of(runs, batch_size)
    any_run = next(each[0] for each in runs.values() if each)
    record = {
        "size": size,
        "device": device,
        "device_name": any_run.device_name,
        "num_threads": any_run.num_threads,
        "precision": precision,
        "batch_size": batch_size,
        "pixels": pixels,
        "turns": turns,
        "repeats": repeats,
        "rows": rows,
        "failures": failures,
    }
    click.echo(as_json(record), nl=False)


def take_turns(jobs: Mapping[str, Job], turns: int) -> tuple[dict[str, list[Run]], dict[str, str]]:
    """Each job's runs, one a turn, and why a job has none or fewer."""
    runs: dict[str, list[Run]] = {name: [] for name in jobs}
    failures: dict[str, str] = {}
    for turn in range(turns):
        for name, job in jobs.items():
            if name in failures:
                continue
            say(f"turn {turn + 1} of {turns}: {name}")
            try:
                runs[name].append(in_own_process(run, job))
            except ProcessFailed as failed:
                failures[name] = str(failed)
    return runs, failures


def rows_of(runs: Mapping[str, Sequence[Run]], batch_size: int) -> list[dict[str, Any]]:
    """A row per operation over all turns, in the order of the runs.

    `flops` and `seconds` (a median) are of one call; `floor_s` is what a call takes at the device's
    peak and `share_of_peak` how near it is. `calls` is how many the mode makes with its default
    settings, at most, and `total_s` what they take. `times_faster` is against the paper's step as
    written, turn by turn. `peak_bytes` is the variant's.
    """
    calls = default_calls(batch_size)
    written = [statistics.median(each.operations[0].seconds) for each in runs.get(_YARDSTICK, ())]
    rows = []
    for variant, each in runs.items():
        turns = zip(*(one.operations for one in each), strict=True)
        for index, operations in enumerate(turns):
            seconds = [value for one in operations for value in one.seconds]
            typical = statistics.median(seconds)
            floor = operations[0].flops / max(one.peak_flops for one in operations)
            ours = [statistics.median(one.seconds) for one in operations]
            is_step = written and variant in _COMPARED and index == 0
            rows.append(
                {
                    "variant": variant,
                    "operation": operations[0].name,
                    "dtype": operations[0].dtype,
                    "flops": operations[0].flops,
                    "seconds": typical,
                    "fastest_s": min(seconds),
                    "slowest_s": max(seconds),
                    "floor_s": floor,
                    "share_of_peak": floor / typical,
                    "calls": calls[variant][index],
                    "total_s": calls[variant][index] * typical,
                    "times_faster": times_faster(written, ours).median if is_step else None,
                    "peak_bytes": max(one.peak_bytes for one in each),
                }
            )
    return rows


def default_calls(batch_size: int) -> dict[str, tuple[int, ...]]:
    """How often each variant's operations are called with default settings, at most.

    `batch_size` pictures are in a call; the modes' own batches are cut to it or put together.
    """
    paper, anchored = PaperMode(), AnchoredMode()
    steps = paper.epochs * math.ceil(paper.shots / batch_size)
    attacked = anchored.attackers * anchored.attack_steps * anchored.batch_size
    scored = 2 * NUM_TRIALS * anchored.uses_images + NUM_HELD_OUT * anchored.attackers
    counterexamples = 2 * anchored.attackers * NUM_COUNTEREXAMPLES
    read = anchored.prompts_to_keep + 2 * anchored.prompts_to_forget + counterexamples
    in_calls = (
        math.ceil(attacked / batch_size),
        math.ceil(scored / batch_size),
        math.ceil(read / PROMPTS_PER_CALL),
    )
    drawn = paper.shots * _STEPS_PER_IMAGE
    return {"as-written": (steps,), "paper": (steps,), "anchored": in_calls, "images": (drawn,)}


if __name__ == "__main__":
    sys.exit(exit_code_of(unlearn))
