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
loop with the same graphs in one process, in the engines that the export chose. Both give the same
bytes, or the command fails.
"""

_STEPS = """\
Where the difference arises: the mean of a step, by the graph's own clock and Triton's. The rest is
the sampler's arithmetic and, through Triton, the way to the other model and back, from process to
process. It does not depend on what the graph computes, so the smaller the model and the fewer its
tokens, the more it weighs.
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
        [run["base"], str(run["threads"]), where]
        + [f"{1000 * run[key][part]:.1f}" for part in ("computes", "waits", "rest")]
        for run in runs
        for where, key in (
            ("in one process", "step_in_process"),
            ("through Triton", "step_through_triton"),
        )
    ]
    return (
        f"{_OVERHEAD}\n{machine(record, with_threads=False)} Medians (quartiles) of "
        f"{record['pairs']} pairs.\n\n{table(heads, clips)}\n{_STEPS}\n{table(step_heads, steps)}"
    )


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
