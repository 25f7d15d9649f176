"""Sampling with a table of coefficients; no scheduler is written down here, nor any model known.

A linear sampler's k-th model input is a weighted sum of the initial noise, the noise predictions so
far and the noises injected so far. The exporter takes the weights from the diffusers scheduler
itself by unit impulses (`assets/samplers.safetensors`); this module only applies them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from text_to_video.refusal import Refusal
from text_to_video.sampler_table import Floats, SamplerTable

NoisePrediction = Callable[[Floats, float], Awaitable[Floats]]


class SamplerTables:
    """The tables of `samplers.safetensors`, read when they are first asked for."""

    def __init__(self, path: Path) -> None:
        open_file: Any = safe_open
        self._file = open_file(path, framework="np")
        self._names = frozenset(self._file.keys())
        self._read: dict[tuple[str, int], SamplerTable] = {}

    def table(self, scheduler: str, num_inference_steps: int) -> SamplerTable:
        """The table; raises Refusal when the scheduler does not offer this number of steps."""
        key = (scheduler, num_inference_steps)
        if key not in self._read:
            self._read[key] = self._load(scheduler, num_inference_steps)
        return self._read[key]

    def steps_offered(self, scheduler: str) -> list[int]:
        """The numbers of steps that the scheduler offers, in order."""
        parts = (name.split("/") for name in self._names)
        return sorted(int(p[1]) for p in parts if p[0] == scheduler and p[2] == "timesteps")

    def _load(self, scheduler: str, steps: int) -> SamplerTable:
        prefix = f"{scheduler}/{steps}/"
        if prefix + "timesteps" not in self._names:
            offered = _ranges(self.steps_offered(scheduler))
            raise Refusal(
                "INVALID_ARGUMENT",
                f"{scheduler} cannot run {steps} num_inference_steps here; it offers {offered}",
            )
        noise = prefix + "noise"
        return SamplerTable(
            timesteps=self._file.get_tensor(prefix + "timesteps"),
            initial=self._file.get_tensor(prefix + "initial"),
            pred=self._file.get_tensor(prefix + "pred"),
            noise=self._file.get_tensor(noise) if noise in self._names else None,
        )


async def sample(
    predict_noise: NoisePrediction,
    table: SamplerTable,
    shape: tuple[int, ...],
    seed: int,
    after_step: Callable[[int], None],
) -> Floats:
    """Latents FP32 `shape` from PCG64(seed): the same seed draws the same noises, whoever asks.

    `predict_noise(model_input, timestep)` gives an array of `shape`. `after_step(k)` is called with
    k = 1 … E after each evaluation and may raise to stop.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    steps, size = table.num_evaluations, int(np.prod(shape))
    terms = np.empty((1 + steps, size), np.float32)  # [x_0, predictions]
    terms[0] = generator.standard_normal(size, np.float32)
    weights = np.concatenate([table.initial[:, None], table.pred], axis=1)
    noise = np.zeros((steps + 1, 0), np.float32) if table.noise is None else table.noise
    noises = generator.standard_normal((noise.shape[1], size), np.float32)

    def weighted_sum(row: int) -> Floats:
        known = slice(1 + row)
        total: Floats = weights[row, known] @ terms[known] + noise[row] @ noises
        return total.reshape(shape)

    for k, timestep in enumerate(table.timesteps.tolist()):
        terms[1 + k] = (await predict_noise(weighted_sum(k), timestep)).reshape(-1)
        after_step(k + 1)
    return weighted_sum(steps)


def _ranges(numbers: list[int]) -> str:
    """[1, 2, 3, 5] as "1-3, 5"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{r[0]}-{r[-1]}" if len(r) > 1 else f"{r[0]}" for r in runs) or "none"
