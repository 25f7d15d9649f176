"""The page of the acceleration benchmark: words around figures. It measures nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unsee.core.files import write_file

INTRODUCTION = """\
# Acceleration

Written by `python benchmarks/acceleration.py`; do not edit.

A request may ask for `acceleration`: `balanced` or `fast` instead of `none`, the default
(`unsee generate --acceleration fast`). The video model is then not evaluated in every step. What it
would have predicted in a step that is left out is forecast by the line through its last two
predictions. `balanced` leaves none out in the first third of a run, where predictions change most:

| pace | evaluated in the first third | after it | of 12 steps |
|---|---|---|---|
| `none` | every step | every step | 12 |
| `balanced` | every step | every second | 8 |
| `fast` | every second | every second | 6 |

A forecast is a weighted sum, and so is every model input of the samplers that this project serves:
leaving steps out turns the sampler's table into a smaller one. Scheduler, steps, guidance and seed
mean what they mean without it, batches keep their size, nothing is trained, and the same request
gives the same bytes.
"""
SOURCES = """\
## Where it comes from

Reusing whole predictions between steps is known from AdaptiveDiffusion (Ye et al., arXiv
2410.09873) and TeaCache (Liu et al., arXiv 2411.19108), both of which decide during the run;
forecasting from finite differences is TaylorSeer's (Liu et al., arXiv 2503.06923), for features
inside the model. Here the steps are fixed beforehand, so that a request's cost is known before it
starts. Reusing the difference that guidance makes (the CFG-Cache of FasterCache, Lv et al., arXiv
2410.19355; Adaptive Guidance, Castillo et al., arXiv 2312.12487) is measured above and is not
offered: it saves half an evaluation where leaving a step out saves a whole one.

The paces were chosen by PSNR, by hand, among about 80 candidates on five to eight prompts; no
command repeats that choice. Also tried there: a parabola instead of a
line, a line through the denoised sample or the noise instead of the raw prediction (better at some
paces, worse at others), a line through the differences that guidance makes, reused guidance on top
of a pace, and looking more often late than early. None was better at equal cost throughout.
"""
GOAL_SPEEDUP, GOAL_POINTS_LOST = 1.8, 1.0
HEADER = (
    "| clip | evaluations | seconds | faster | PSNR mean, least (dB) | recognised | points lost |\n"
    "|---|---|---|---|---|---|---|"
)
LEGEND = """\
Medians of seconds, and of the ratio prompt by prompt; every clip begins with the same noise as the
one that it is held to. Recognised: the share of the concepts named by the prompts that the
playground's judge sees, with Wilson's 95 % interval. Points lost against the first row: the mean,
and its bootstrap 95 % interval over the paired questions.
"""


@dataclass(frozen=True)
class Figures:
    """One candidate's row. PSNR in dB to the first candidate; None for that one itself.

    `recognised` and `points_lost` are a `Rate` and a `Mean` of `unsee.evaluation.report.schema`.
    """

    name: str
    acceleration: str
    evaluations: int
    seconds: float
    speedup: float
    psnr_mean: float | None
    psnr_least: float | None
    recognised: dict[str, Any]
    points_lost: dict[str, Any]


@dataclass(frozen=True)
class Page:
    """What was measured, and on what."""

    prompts: int
    threads: int
    num_frames: int
    num_inference_steps: int
    guidance_scale: float
    openvino: str
    main: list[Figures]
    others: list[Figures]
    prompts_of_others: int


def write_page(page: Page, path: Path) -> None:
    """Write the Markdown page to `path` and the figures beside it, with the suffix `.json`."""
    write_file(path.with_suffix(".json"), (json.dumps(asdict(page), indent=1) + "\n").encode())
    write_file(path, "\n".join(_parts(page)).encode())


def _parts(page: Page) -> list[str]:
    measured = (
        f"{page.prompts} prompts of the playground's evaluation, {page.num_frames} frames of "
        f"64 × 64 pixels, guidance {page.guidance_scale:g}; video UNet and VAE by "
        f"OpenVINO {page.openvino} in bfloat16 with fixed shapes, {page.threads} CPU thread(s)."
    )
    others = (
        f"The same with other samplers, {page.num_inference_steps} steps, on "
        f"{page.prompts_of_others} of the prompts; each is held to its own clips without "
        "acceleration."
    )
    return [
        INTRODUCTION,
        "## Measured",
        "",
        f"Against {page.num_inference_steps} steps of DDIM, the playground's default. {measured}",
        "",
        _table(page.main),
        "",
        LEGEND,
        *(_verdict(row) for row in page.main if row.acceleration != "none"),
        "",
        _resolution(page.main[0]),
        "",
        others,
        "",
        _table(page.others),
        "",
        SOURCES,
    ]


def _verdict(row: Figures) -> str:
    lost = row.points_lost
    fast_enough = row.speedup >= GOAL_SPEEDUP
    good_enough = lost["value"] <= GOAL_POINTS_LOST
    meets = "meets" if fast_enough and good_enough else "misses"
    return (
        f"- `{row.name}` {meets} the goal of {GOAL_SPEEDUP:g}× at no more than "
        f"{GOAL_POINTS_LOST:g} point lost: it is {row.speedup:.2f}× faster and loses "
        f"{lost['value']:.1f} points [{lost['low']:.1f}, {lost['high']:.1f}]."
    )


def _resolution(first: Figures) -> str:
    answers = first.recognised["n"]
    return (
        f"One of the {answers} answers is {100 / answers:.1f} points, so recognition hardly tells "
        "candidates apart here. What a pace is worth shows beside the samplers with as many "
        "evaluations: how close the clip stays to the one without acceleration."
    )


def _table(rows: Sequence[Figures]) -> str:
    return "\n".join([HEADER, *(_row(row) for row in rows)])


def _row(row: Figures) -> str:
    seen, lost = row.recognised, row.points_lost
    psnr = "–" if row.psnr_mean is None else f"{row.psnr_mean:.1f}, {row.psnr_least:.1f}"
    cells = [
        _name(row),
        str(row.evaluations),
        f"{row.seconds:.2f}",
        f"{row.speedup:.2f}×",
        psnr,
        f"{100 * seen['hits'] / seen['n']:.1f} % "
        f"[{100 * seen['low']:.1f}, {100 * seen['high']:.1f}] of {seen['n']}",
        f"{lost['value']:.1f} [{lost['low']:.1f}, {lost['high']:.1f}]",
    ]
    return f"| {' | '.join(cells)} |"


def _name(row: Figures) -> str:
    if row.name == row.acceleration:
        return f"`{row.name}`"
    return row.name if row.acceleration == "none" else f"{row.name}, `{row.acceleration}`"
