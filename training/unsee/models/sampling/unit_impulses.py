"""A diffusers scheduler as a table of coefficients, found by sending unit impulses through it.

One sampling run is linear in the initial noise x_0, the model's outputs eps_j and the drawn noises
n_j, and acts on each element alone. So a run whose latents are the unit vectors of
(x_0, eps_0 … eps_{E-1}, n_0 … n_{N-1}) leaves the coefficients themselves in the latents:

    model_input_k = initial[k] x_0 + sum_j pred[k, j] eps_j + sum_j noise[k, j] n_j,   k < E
    final latents = the same with row E

x_0 is standard normal: `init_noise_sigma` and `scale_model_input` are in the coefficients. Nothing
here depends on how a scheduler works. That a run is linear is tried out with random numbers.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from unsee.core.errors import BaseFolderError, first_line
from unsee.models.quiet import quiet_libraries
from unsee.models.sampling.options import fresh, is_flow_matching
from unsee.models.sampling.sampler_table import SamplerTable

NONLINEAR_OPTIONS = ("thresholding", "clip_sample")
"""Options that clamp what the model predicts, in schedulers that have them."""

_NUM_TRIALS = 16
_TRIAL_SCALE = 3.0
"""Latents and outputs of a trial are this many times standard normal: clamping shows in them."""
_LARGEST_DEVIATION = 1e-3
_ETA = 0.0
"""What diffusers' pipelines give every step that takes it, whatever its own default is."""

Rows = npt.NDArray[np.float64]


def sampler_table(scheduler: Any, num_inference_steps: int) -> SamplerTable:
    """The table of `scheduler`, which is left as it is, at `num_inference_steps`.

    Raises `BaseFolderError`, in words that follow a scheduler's name, if its steps are not linear,
    it draws noise from elsewhere than PyTorch's normal distribution, a value is not finite, or
    diffusers cannot do that many steps with it.
    """
    for option in acting_nonlinear_options(scheduler):
        raise BaseFolderError(f"has {option} on, which makes its steps non-linear")
    try:
        with quiet_libraries(), np.errstate(all="ignore"):
            return _table(fresh(scheduler), num_inference_steps)
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        NotImplementedError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:  # diffusers has no error class of its own for "not that many steps"
        raise BaseFolderError(
            f"cannot make {num_inference_steps} steps: {first_line(error)}"
        ) from error


def acting_nonlinear_options(scheduler: Any) -> list[str]:
    """Those of `NONLINEAR_OPTIONS` that are on in a scheduler whose class has them."""
    known = inspect.signature(type(scheduler).__init__).parameters
    return [name for name in NONLINEAR_OPTIONS if name in known and scheduler.config.get(name)]


class _DrawnNoise(TorchFunctionMode):
    """Answers `torch.randn` and `torch.randn_like` with what `draw` gives."""

    def __init__(self, draw: Callable[[], Tensor]) -> None:
        super().__init__()
        self._draw = draw

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Replace the two, let all else pass."""
        if func in (torch.randn, torch.randn_like):
            return self._draw()
        return func(*args, **(kwargs or {}))


def _table(scheduler: Any, steps: int) -> SamplerTable:
    scheduler.set_timesteps(steps)
    evaluations = len(scheduler.timesteps)
    count = 1 + 2 * evaluations  # at most one noise a step
    generator = torch.Generator().manual_seed(0)
    trials = torch.randn((count, _NUM_TRIALS), dtype=torch.float64, generator=generator)
    units = torch.eye(count, dtype=torch.float64)
    inputs = torch.cat([units, _TRIAL_SCALE * trials], dim=1)
    rows, drawn = _run(scheduler, list(inputs[:, None, :, None, None]))
    if not np.isfinite(rows).all():
        raise ValueError("it gives a value that is not finite")
    tried, rows = rows[:, count:], rows[:, :count]
    deviation = np.abs(rows @ inputs[:, count:].numpy() - tried).max()
    if deviation > _LARGEST_DEVIATION * np.abs(tried).max():
        raise ValueError("a step is not linear, or draws noise in a way of its own")
    noise = rows[:, 1 + evaluations : 1 + evaluations + drawn].astype(np.float32)
    return SamplerTable(
        timesteps=scheduler.timesteps.to(torch.float32).numpy(),
        initial=rows[:, 0].astype(np.float32),
        pred=rows[:, 1 : 1 + evaluations].astype(np.float32),
        noise=noise if noise.any() else None,
    )


def _run(scheduler: Any, inputs: Sequence[Tensor]) -> tuple[Rows, int]:
    """All model inputs and the final latents, one a row, and how many noises were drawn.

    `inputs` are x_0, the model's outputs and as many noises as there are steps.
    """
    evaluations = len(scheduler.timesteps)
    noises = list(inputs[1 + evaluations :])

    def draw() -> Tensor:
        if not noises:
            raise ValueError("it draws more than one noise a step")
        return noises.pop(0)

    accepted = inspect.signature(scheduler.step).parameters
    options = {"eta": _ETA} if "eta" in accepted else {}
    if is_flow_matching(scheduler):  # as its pipelines do: whole timesteps near 1 may be equal
        scheduler.set_begin_index(0)
    latents = inputs[0] * scheduler.init_noise_sigma
    rows = []
    for output, timestep in zip(inputs[1:], scheduler.timesteps, strict=False):
        rows.append(scheduler.scale_model_input(latents, timestep))
        with _DrawnNoise(draw):
            latents = scheduler.step(output, timestep, latents, **options).prev_sample
    rows.append(latents)
    drawn = evaluations - len(noises)
    return torch.stack(rows).reshape(len(rows), -1).to(torch.float64).numpy(), drawn
