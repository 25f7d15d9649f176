"""What was measured of each engine as one row: ratios within turns, and against which rival.

Knows seconds and errors by engine; measures nothing and prints nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from accuracy import StepError
from engine_variants import VARIANTS, YARDSTICK
from spread import Spread, times_faster
from turns import Seconds

SAME_ERROR = 1e-4
"""Errors below this (of a standard deviation) are float32's own rounding and count as equal."""


@dataclass(frozen=True)
class Row:
    """One engine. Seconds are of a guided step and of a whole clip; `share_of_peak` is a step's.

    `open_s` is until its first clip of one step; `rival` is the fastest `torch.compile` that is at
    least as exact, None if there is none.
    """

    engine: str
    label: str
    precision: str
    open_s: float
    step_s: Spread
    clip_s: Spread | None
    step_times_eager: Spread
    clip_times_eager: Spread | None
    rival: str | None
    step_times_rival: Spread | None
    clip_times_rival: Spread | None
    error: StepError
    psnr_db: Mapping[str, float]
    share_of_peak: float


def rows_of(
    seconds: Mapping[str, Seconds],
    errors: Mapping[str, StepError],
    decibels: Mapping[str, Mapping[str, float]],
    open_s: Mapping[str, float],
    step_flops: int,
    peak_flops: Mapping[str, float],
) -> list[Row]:
    """A row per engine, in the order of `seconds`."""
    eager = seconds[YARDSTICK]
    rows = []
    for name, own in seconds.items():
        variant, rival = VARIANTS[name], rival_of(name, seconds, errors)
        other = seconds[rival] if rival else None
        step_s = Spread.of(own.step)
        flops_a_second = step_flops / step_s.median
        rows.append(
            Row(
                engine=name,
                label=variant.label,
                precision=variant.precision,
                open_s=open_s[name],
                step_s=step_s,
                clip_s=Spread.of(own.clip) if own.clip else None,
                step_times_eager=times_faster(eager.step, own.step),
                clip_times_eager=times_faster(eager.clip, own.clip) if own.clip else None,
                rival=rival,
                step_times_rival=times_faster(other.step, own.step) if other else None,
                clip_times_rival=times_faster(other.clip, own.clip) if other and own.clip else None,
                error=errors[name],
                psnr_db=decibels.get(name, {}),
                share_of_peak=flops_a_second / peak_flops[variant.precision],
            )
        )
    return rows


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
