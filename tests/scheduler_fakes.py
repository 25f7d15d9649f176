"""Schedulers drawn at random, and the loop of diffusers' pipelines with a model that is given."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import diffusers
import numpy as np
import torch
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode

from unsee.models.quiet import quiet_libraries
from unsee.models.sampling.options import fresh, is_flow_matching
from unsee.models.schedulers import DISTILLED, FLOW_DISTILLED, FLOW_MATCHING, OFFERED

EVERY_CLASS = tuple(dict.fromkeys((*OFFERED, *DISTILLED, *FLOW_MATCHING, *FLOW_DISTILLED)))

_OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "beta_start": st.sampled_from([0.0001, 0.00085]),
    "beta_end": st.sampled_from([0.012, 0.02]),
    "beta_schedule": st.sampled_from(["linear", "scaled_linear", "squaredcos_cap_v2"]),
    "trained_betas": st.none() | st.just(np.linspace(0.0002, 0.015, 1000).tolist()),
    "rescale_betas_zero_snr": st.booleans(),
    "timestep_spacing": st.sampled_from(["linspace", "leading", "trailing"]),
    "steps_offset": st.integers(0, 2),
    "set_alpha_to_one": st.booleans(),
    "prediction_type": st.sampled_from(["epsilon", "v_prediction", "sample", "flow_prediction"]),
    "use_flow_sigmas": st.booleans(),
    "flow_shift": st.sampled_from([1.0, 3.0, 12.0]),
    "skip_prk_steps": st.booleans(),
    "use_karras_sigmas": st.booleans(),
    "solver_order": st.integers(1, 3),
    "lower_order_final": st.booleans(),
    "algorithm_type": st.sampled_from(["dpmsolver++", "sde-dpmsolver++", "dpmsolver", "deis"]),
    "solver_type": st.sampled_from(["midpoint", "heun", "bh1", "bh2", "logrho"]),
    "final_sigmas_type": st.sampled_from(["zero", "sigma_min"]),
    "use_beta_sigmas": st.booleans(),
    "shift": st.sampled_from([1.0, 3.0, 5.0]),
    "stochastic_sampling": st.booleans(),
}


@st.composite
def schedulers(draw: st.DrawFn) -> Any:
    """Any scheduler of `EVERY_CLASS` with options of its constructor, none of which clamps."""
    name = draw(st.sampled_from(EVERY_CLASS))
    known = inspect.signature(getattr(diffusers, name).__init__).parameters
    given = draw(st.sets(st.sampled_from([option for option in _OPTIONS if option in known])))
    options = {option: draw(_OPTIONS[option]) for option in sorted(given)}
    options |= {clamp: False for clamp in ("clip_sample", "thresholding") if clamp in known}
    return made(name, **options)


def made(name: str, **options: Any) -> Any:
    """A scheduler, or the options' error where its constructor refuses them together."""
    with quiet_libraries():
        try:
            return getattr(diffusers, name)(**options)
        except (NotImplementedError, ValueError) as error:
            return error


class GivenNoise(TorchFunctionMode):
    """`torch.randn` and `torch.randn_like` give the rows of `noises` in order, then zeros."""

    def __init__(self, noises: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self._noises = list(noises)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in (torch.randn, torch.randn_like) and self._noises:
            return self._noises.pop(0)
        return func(*args, **(kwargs or {}))


def diffusers_loop(
    scheduler: Any,
    steps: int,
    latents: torch.Tensor,
    noises: Sequence[torch.Tensor],
    model: Callable[[torch.Tensor, float], torch.Tensor],
) -> torch.Tensor:
    """The final latents of diffusers' own loop, which draws `noises` in their order.

    As its pipelines do, it gives eta = 0 to every step that takes it, and begins at the first step
    where flows are matched, even if two timesteps are equal.
    """
    scheduler = fresh(scheduler)
    eta = {"eta": 0.0} if "eta" in inspect.signature(scheduler.step).parameters else {}
    with quiet_libraries(), GivenNoise(noises):
        scheduler.set_timesteps(steps)
        if is_flow_matching(scheduler):
            scheduler.set_begin_index(0)
        latents = latents * scheduler.init_noise_sigma
        for timestep in scheduler.timesteps:
            model_input = scheduler.scale_model_input(latents, timestep)
            output = model(model_input, float(timestep))
            latents = scheduler.step(output, timestep, latents, **eta).prev_sample
    return latents
