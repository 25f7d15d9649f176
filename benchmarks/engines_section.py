"""The part of the performance page that compares engines: words, tables, plots.

Knows the records of its commands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markdown_cells import FOLDER, GIGA, MEGA, Plots, Record, machine, ratio, seconds, table
from plots import Bar, bars

YARDSTICK = "eager-float32"
SIZES = ("engines-playground", "engines-middle")
"""The records of the sizes."""

_ENGINES = """\
## Engines

`python benchmarks/engines.py`

The yardstick is PyTorch eager in float32. `torch.compile` is the strongest rival that needs no
export: it compiles for exact shapes, with frozen weights (packed for the CPU's kernels), and its
bfloat16 has weights and activations in bfloat16 between float32 borders. **Against compile** is the
ratio to the fastest `torch.compile` whose error is no larger than the engine's own. *Any shape* is
one compilation for all shapes; the other OpenVINO rows are compiled for the shapes of the request,
as the server does when it first sees them. **Error** is of the noise predicted over all steps of a
clip, in standard deviations: root mean square and largest. **dB** is the PSNR of the frames of
whole clips against float32's, the worst of several prompts; with random weights it would mean
nothing. **Of peak** is the FLOPs of a step a second over the fastest matrix product that this
machine showed in the same precision with as many threads.
"""

_LIMITS = """\
### What limits it

OpenVINO's own profile of a guided step, by kind of layer, in per cent of its time; matrix products
are *FullyConnected* and *Convolution*, and *Subgraph* is what it fuses: attention with its softmax,
activations, gates, sums. *Transpose* and *Reorder* compute nothing.

{profile}
- **Precision decides first.** The machine's matrix products in bfloat16 have a multiple of
  float32's peak where the CPU has units for it, so the same graph has a lower share of a much
  higher peak: what is not a matrix product keeps its price and weighs more.
- **Softmax, normalisation, sums.** Between the two products of attention stand exponents, which no
  matrix unit takes; norms (*MVN*) and sums read everything and compute next to nothing with it.
- **Layout.** A video UNet alternates convolutions over pixels, convolutions over frames, and
  attention over either. Each wants another order of the axes, and the transposes between them
  move all activations.
- **Small tensors.** At the embedded base's size a layer takes a fraction of a millisecond, so the
  start and the end of every parallel region count; the middle size is nearer to what real models
  show.
"""


def engines_part(records: Mapping[str, Record], plots: Plots) -> str:
    """The part of the page for those sizes that there are; adds its plots to `plots`."""
    sizes = [_size(records[name], plots) for name in SIZES if name in records]
    limits = _LIMITS.format(profile=_profile([records[name] for name in SIZES if name in records]))
    return "\n".join([_ENGINES, *sizes, limits])


def _size(record: Record, plots: Plots) -> str:
    clip, size = record["clip"], record["size"]
    peak = record["peak_flops"]
    facts = (
        f"### {size.capitalize()}: {record['parameters'] / MEGA:.1f} M parameters\n\n"
        f"{clip['num_frames']} frames of {clip['height']} x {clip['width']}, "
        f"{clip['num_inference_steps']} steps; a guided step is "
        f"{record['step_flops'] / GIGA:.1f} GFLOP, a clip {record['clip_flops'] / GIGA:.0f}. "
        f"{machine(record)} Its fastest matrix product: {peak['float32'] / GIGA:.0f} GFLOP/s in "
        f"float32, {peak['bfloat16'] / GIGA:.0f} in bfloat16. {record['turns']} turns. "
        f"The export chose **{record['served']}** on the embedded base.\n"
    )
    for what, title in (("step", "step"), ("clip", "whole clip")):
        drawn = _speed_bars(record, f"{what}_times_eager")
        if drawn:
            plots[f"engines-{size}-{what}.svg"] = bars(
                drawn, f"{title}: times as fast as PyTorch eager float32", 1.0
            )
    images = "\n".join(
        f"![{size}, {what}]({FOLDER}/{file})\n"
        for what in ("step", "clip")
        if (file := f"engines-{size}-{what}.svg") in plots
    )
    parts = [facts, _engine_table(record), images, _failures(record), _judged(record)]
    return "\n".join(part for part in parts if part)


def _profile(records: Sequence[Record]) -> str:
    columns = {
        f"{record['size']}, {precision}": shares
        for record in records
        for precision, shares in record["layers"].items()
    }
    kinds = dict.fromkeys(kind for shares in columns.values() for kind in shares)
    rows = [
        [kind, *(_per_cent(shares.get(kind)) for shares in columns.values())]
        for kind in sorted(kinds, key="others".__eq__)
    ]
    return table(["layers", *columns], rows)


def _per_cent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f}"


def _speed_bars(record: Record, name: str) -> list[Bar]:
    return [
        Bar(
            label=row["label"],
            value=row[name]["median"],
            least=row[name]["least"],
            most=row[name]["most"],
            note=f"{row[name]['median']:.2f}",
            strong=row["engine"] == record["served"],
        )
        for row in record["rows"]
        if row[name] is not None and row["engine"] != YARDSTICK
    ]


def _engine_table(record: Record) -> str:
    heads = (
        "engine", "step s", "of peak", "× eager", "× compile", "clip s", "× eager", "× compile",
        "error", "largest", "dB", "opens in s",
    )  # fmt: skip
    rows = []
    for row in record["rows"]:
        decibels = row["psnr_db"].values()
        is_served = row["engine"] == record["served"]
        rows.append(
            [
                f"**{row['label']}**" if is_served else row["label"],
                seconds(row["step_s"]),
                f"{row['share_of_peak']:.0%}",
                *(ratio(row[f"step_times_{other}"]) for other in ("eager", "rival")),
                seconds(row["clip_s"]),
                *(ratio(row[f"clip_times_{other}"]) for other in ("eager", "rival")),
                f"{row['error']['rms']:.1e}",
                f"{row['error']['largest']:.1e}",
                f"{min(decibels):.1f}" if decibels else "",
                f"{row['open_s']:.1f}",
            ]
        )
    return table(heads, rows)


def _failures(record: Record) -> str:
    return "".join(f"- {name} gave no result: {why}\n" for name, why in record["failures"].items())


def _judged(record: Record) -> str:
    if not record["judged"]:
        return ""
    rows = [
        [
            group,
            str(seen["named"]),
            f"{seen['exact'] / seen['named']:.1%}",
            f"{seen['other'] / seen['named']:.1%}",
            f"{seen['points']:+.1f}",
            f"{seen['only_exact']} / {seen['only_other']}",
        ]
        for group, seen in record["judged"].items()
    ]
    words = (
        f"What the base's own judge recognises in {record['num_judged']} clips, float32 by PyTorch "
        f"against {record['served']}, the same prompts and noise:\n\n"
    )
    heads = ("concepts", "named", "float32", "served", "points", "only by one of the two")
    return words + table(heads, rows)
