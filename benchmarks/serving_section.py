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

_IMAGE = """\
## What a server needs

`python benchmarks/serving_image.py`

The packages of the extra `serve` at any depth, as installed here. PyTorch, diffusers and
transformers are not among them: the exported graphs, the sampler's tables and the tokenizer do
without.
"""


def overhead_part(record: Record) -> str:
    """What Triton costs."""
    engines = ", ".join(f"{name} in {engine}" for name, engine in record["engines"].items())
    pairs = record["ratio"]
    rows = [
        ["in one process, s", seconds(record["seconds_in_process"])],
        ["through Triton, s", seconds(record["seconds_through_triton"])],
        ["ratio, pair by pair", f"{pairs['median']:.3f} ({quartiles(pairs, 3)})"],
    ]
    heads = ("clip", f"median (quartiles) of {record['pairs']} pairs")
    return f"{_OVERHEAD}\n{machine(record)} {engines}.\n\n{table(heads, rows)}"


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
