"""The parts of the performance page on Triton's cost and on what a server needs.

Knows the records of its commands.
"""

from __future__ import annotations

from collections.abc import Sequence

from markdown_cells import MEGA, MIB, Record, machine, quartiles, seconds, table

_OVERHEAD = """\
## Serving through Triton

`python benchmarks/serving_overhead.py`

A whole clip through Triton (gRPC stream, a call between models per step, frames back) over the same
loop with the same graphs in one process: the embedded base in the engines that its export chose, a
middle-sized one in ONNX Runtime, whose steps are long. Both ways give the same bytes, or the
command fails.
"""

_STEPS = """\
Where the difference arises: the mean of a step. *Computes* is the graph's call in one process, and
in Triton what it counts as computing, in which the stand-in's Python and the way to its process are
included. *The rest* is the sampler's arithmetic and, through Triton, the way to the other model and
back. Waits and the rest hardly depend on what the graph computes, so the smaller the model and the
fewer its tokens, the more they weigh.
"""

_IMAGE = """\
## What a server needs

`python benchmarks/serving_image.py`

The packages of the extra `serve` at any depth, as installed here. PyTorch, diffusers and
transformers are not among them: the exported graphs, the sampler's tables and the tokenizer do
without.
"""


def overhead_part(record: Record) -> str:
    """What Triton costs."""
    runs = record["runs"]
    heads = (
        "base, video UNet's engine",
        "threads",
        "in one process, s",
        "through Triton, s",
        "ratio, pair by pair",
    )
    clips = [
        [
            f"{run['base']}, {run['engines']['video_unet']}",
            str(run["threads"]),
            seconds(run["seconds_in_process"]),
            seconds(run["seconds_through_triton"]),
            f"{run['ratio']['median']:.3f} ({quartiles(run['ratio'], 3)})",
        ]
        for run in runs
    ]
    step_heads = ("base", "threads", "a step, ms", "computes", "waits, copies", "the rest")
    steps = [
        [run["base"], str(run["threads"]), where, *(f"{1000 * s:.1f}" for s in parts.values())]
        for run in runs
        for where, parts in _where(run).items()
    ]
    return (
        f"{_OVERHEAD}\n{machine(record, with_threads=False)} Medians (quartiles) of "
        f"{record['pairs']} pairs.\n\n{table(heads, clips)}\n{_STEPS}\n{table(step_heads, steps)}"
    )


def _where(run: Record) -> dict[str, dict[str, float]]:
    """Seconds of a step by part, both ways, and the difference."""
    alone, served = run["step_in_process"], run["step_through_triton"]
    more = {part: served[part] - alone[part] for part in alone}
    return {"in one process": alone, "through Triton": served, "more through Triton": more}


def image_part(record: Record) -> str:
    """What a server needs."""
    packages, total = record["packages"], sum(record["packages"].values())
    shown = {name: size for name, size in packages.items() if size >= total / 100}
    others = total - sum(shown.values())
    rows = [[name, f"{size / MEGA:.0f}"] for name, size in shown.items()]
    rows += [[f"{len(packages) - len(shown)} others", f"{others / MEGA:.0f}"]]
    rows += [["**all**", f"**{total / MEGA:.0f}**"]]
    left_out = ", ".join(
        f"{name} {size / MEGA:.0f}" for name, size in record["not_needed"].items() if size
    )
    without = f"\nNot among them, in MB: {left_out}.\n" if left_out else ""
    return (
        f"{_IMAGE}\n{table(('package', 'MB'), rows)}{without}\n"
        f"The embedded base's model repository: {record['repository_bytes'] / MEGA:.0f} MB. "
        f"{machine(record, with_threads=False)} Video UNet in {record['engine']}.\n\n"
        f"{_served_table(record['served'])}"
    )


def _served_table(served: Sequence[Record]) -> str:
    heads = ("threads", "ready after s", "first clip s", "clip s", "clips a minute", "memory, MiB")
    rows = [
        [
            str(one["threads"]),
            f"{one['ready_s']:.1f}",
            f"{one['first_clip_s']:.2f}",
            seconds(one["clip_s"]),
            f"{60 / one['clip_s']['median']:.1f}",
            f"{one['memory_bytes'] / MIB:.0f}",
        ]
        for one in served
    ]
    return table(heads, rows)
