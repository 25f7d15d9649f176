"""Which steps of a sampling run evaluate the model, and what stands for the predictions left out.

Predictions of neighbouring steps are alike, the more so the less noise is left, so some need not be
computed: one that is left out is forecast by the line through the last two that were computed.
AdaptiveDiffusion (Ye et al., arXiv 2410.09873) and TeaCache (Liu et al., arXiv 2411.19108) reuse
the last prediction, TaylorSeer (Liu et al., arXiv 2503.06923) forecasts the model's features from
finite differences. A forecast is a weighted sum of predictions, and so is every model input of a
linear sampler: leaving predictions out gives a smaller table of the same kind. This module knows
tables only, neither the model nor how often a clip can do without it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from text_to_video.sampler_table import SamplerTable


@dataclass(frozen=True)
class Pace:
    """From one evaluation to the next it is `early` steps in a run's first third, then `late`."""

    early: int
    late: int


PACES = {"none": Pace(1, 1), "balanced": Pace(1, 2), "fast": Pace(2, 2)}
"""What a request may ask for; every pace keeps the first step."""


def evaluated_steps(pace: Pace, num_steps: int) -> list[int]:
    """Which of the steps 0 … `num_steps` - 1 evaluate the model, in order."""
    third = math.ceil(num_steps / 3)
    steps = [0]
    while (step := steps[-1] + (pace.early if steps[-1] < third else pace.late)) < num_steps:
        steps.append(step)
    return steps


def accelerated(table: SamplerTable, pace: Pace) -> SamplerTable:
    """The table that evaluates the model in the steps of `pace` alone; it draws the same noises."""
    num_steps = table.num_evaluations
    evaluated = evaluated_steps(pace, num_steps)
    rows = [*evaluated, num_steps]
    pred = table.pred.astype(np.float64) @ forecasts(evaluated, num_steps)
    return SamplerTable(
        timesteps=table.timesteps[evaluated],
        initial=table.initial[rows],
        pred=pred[rows].astype(np.float32),
        noise=None if table.noise is None else table.noise[rows],
    )


def forecasts(evaluated: list[int], num_steps: int) -> npt.NDArray[np.float64]:
    """Weights FP64 [`num_steps`, len(evaluated)]: row j makes step j's prediction of the computed.

    A computed prediction is itself, another the line through the last two before it; where there is
    one alone, that one. `evaluated` is in order and begins with 0.
    """
    weights = np.zeros((num_steps, len(evaluated)))
    for step in range(num_steps):
        last = int(np.searchsorted(evaluated, step, side="right")) - 1
        ahead = step - evaluated[last]
        slope = ahead / (evaluated[last] - evaluated[last - 1]) if last else 0.0
        weights[step, last] = 1.0 + slope
        if slope:
            weights[step, last - 1] = -slope
    return weights
