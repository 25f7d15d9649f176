"""A diffusers scheduler as a table of coefficients, found by sending unit impulses through it.

One sampling run is linear in the initial noise x_0, the model's outputs eps_j and the injected
noises n_j, and acts on each element alone. So a run whose latents are the unit vectors of
(x_0, eps_0 … eps_{E-1}, n_0 … n_{E-1}) leaves the coefficients themselves in the latents:

    model_input_k = initial[k] x_0 + sum_j pred[k, j] eps_j + sum_j noise[k, j] n_j,   k < E
    final latents = the same with row E

x_0 is standard normal: `init_noise_sigma` and `scale_model_input` are in the coefficients. Nothing
here knows how any scheduler works, only diffusers' interface to all of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import diffusers
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from unsee.core.errors import NotExportable
from unsee.models.quiet import quiet_libraries

OFFERED = (
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "UniPCMultistepScheduler",
    "DDPMScheduler",
)
NONLINEAR_OPTIONS = ("thresholding", "clip_sample")

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SamplerTable:
    """One scheduler at one number of steps, making E evaluations of the model.

    `timesteps` float32 [E]; `initial` float32 [E + 1]; `pred` and `noise` float32 [E + 1, E], see
    the module. `noise` is None if the scheduler injects none.
    """

    timesteps: Floats
    initial: Floats
    pred: Floats
    noise: Floats | None


class _InjectedNoise(TorchFunctionMode):
    """Answers `torch.randn`, through which diffusers draws all noise, with a unit impulse."""

    def __init__(self, impulse: Callable[[], Tensor]) -> None:
        super().__init__()
        self._impulse = impulse

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Replace `torch.randn`, let all else pass."""
        return self._impulse() if func is torch.randn else func(*args, **(kwargs or {}))


def offered_schedulers(base_scheduler: Any) -> dict[str, Any]:
    """The schedulers of `OFFERED` with the noise schedule of `base_scheduler`, by class name.

    Raises `NotExportable` if the base's own scheduler asks for a non-linear step.
    """
    for option in NONLINEAR_OPTIONS:
        if base_scheduler.config.get(option):
            raise NotExportable(
                f"the base's {type(base_scheduler).__name__} has {option} on, which makes its "
                f"steps non-linear; set {option} to false in its scheduler_config.json"
            )
    linear = dict.fromkeys(NONLINEAR_OPTIONS, False)
    with quiet_libraries():
        return {
            name: getattr(diffusers, name).from_config({**base_scheduler.config, **linear})
            for name in OFFERED
        }


def sampler_table(scheduler: Any, num_inference_steps: int) -> SamplerTable:
    """The table of `scheduler` (its state is overwritten) at `num_inference_steps`.

    Raises `NotExportable` if a step is non-linear by option, draws noise twice or leaves the finite
    numbers, and whatever diffusers raises if it cannot do that many steps.
    """
    for option in NONLINEAR_OPTIONS:
        if scheduler.config.get(option):
            raise NotExportable(
                f"{type(scheduler).__name__} with {option} is not linear in its inputs"
            )
    scheduler.set_timesteps(num_inference_steps)
    timesteps = scheduler.timesteps
    rows = _impulse_response(scheduler, timesteps)
    if not np.isfinite(rows).all():
        raise NotExportable(
            f"{type(scheduler).__name__} at {num_inference_steps} steps gives a value that is not "
            "finite"
        )
    evaluations = len(timesteps)
    noise = rows[:, 1 + evaluations :]
    return SamplerTable(
        timesteps=timesteps.to(torch.float32).numpy(),
        initial=rows[:, 0].astype(np.float32),
        pred=rows[:, 1 : 1 + evaluations].astype(np.float32),
        noise=noise.astype(np.float32) if noise.any() else None,
    )


def sampler_tables(base_scheduler: Any, max_steps: int) -> dict[str, dict[int, SamplerTable]]:
    """Tables by scheduler and number of steps (1 … `max_steps`) of all that the base allows.

    A number of steps that diffusers refuses is left out, and so is a scheduler without any. Raises
    `NotExportable` if nothing is left or the base's scheduler is not linear.
    """
    tables: dict[str, dict[int, SamplerTable]] = {}
    for name, scheduler in offered_schedulers(base_scheduler).items():
        for steps in range(1, max_steps + 1):
            table = _table_or_none(scheduler, steps)
            if table is not None:
                tables.setdefault(name, {})[steps] = table
    if not tables:
        raise NotExportable(
            f"none of {', '.join(OFFERED)} can sample with the base's "
            f"{type(base_scheduler).__name__} configuration"
        )
    return tables


def table_tensors(tables: Mapping[str, Mapping[int, SamplerTable]]) -> dict[str, Floats]:
    """The tables as `<scheduler>/<steps>/<field>`, what `samplers.safetensors` holds."""
    tensors: dict[str, Floats] = {}
    for name, by_steps in tables.items():
        for steps, table in by_steps.items():
            for field in ("timesteps", "initial", "pred", "noise"):
                values = getattr(table, field)
                if values is not None:
                    tensors[f"{name}/{steps}/{field}"] = np.ascontiguousarray(values)
    return tensors


def _table_or_none(scheduler: Any, steps: int) -> SamplerTable | None:
    try:
        with quiet_libraries(), np.errstate(all="ignore"):
            return sampler_table(scheduler, steps)
    except (ArithmeticError, LookupError, NotExportable, RuntimeError, TypeError, ValueError):
        return None  # diffusers has no error class of its own for "not that many steps"


def _impulse_response(scheduler: Any, timesteps: Tensor) -> npt.NDArray[np.float64]:
    evaluations = len(timesteps)
    units = torch.eye(1 + 2 * evaluations, dtype=torch.float64)[:, None, :, None, None]
    draws: list[int] = []

    def inject(step: int) -> Tensor:
        if step in draws:
            raise NotExportable(f"{type(scheduler).__name__} draws noise twice in one step")
        draws.append(step)
        return units[1 + evaluations + step]

    latents = units[0] * scheduler.init_noise_sigma
    rows = []
    for k, timestep in enumerate(timesteps):
        rows.append(scheduler.scale_model_input(latents, timestep))
        with _InjectedNoise(partial(inject, k)):
            latents = scheduler.step(units[1 + k], timestep, latents).prev_sample
    rows.append(latents)
    return torch.stack(rows).reshape(evaluations + 1, -1).to(torch.float64).numpy()
