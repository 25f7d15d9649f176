"""A base's schedulers: what `base.yaml` changes in them, which are served, and why others are not.

The video model's scheduler is served as a table of coefficients (see `unit_impulses`), and so is
every other that has the same noise schedule, or walks the same flow. One whose steps have no such
table is refused, never replaced by another.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from unsee.core.errors import BaseFolderError
from unsee.models.base import Base
from unsee.models.components import about_base, source_place
from unsee.models.generative import hollow_model
from unsee.models.quiet import quiet_libraries
from unsee.models.sampling.options import flow_options, is_flow_matching, scheduler_class

OFFERED = (
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "UniPCMultistepScheduler",
    "DDPMScheduler",
    "PNDMScheduler",
    "HeunDiscreteScheduler",
    "DPMSolverSinglestepScheduler",
    "DEISMultistepScheduler",
    "LMSDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
)
"""What any model that was trained with betas can be sampled with, in the order of the offer."""

DISTILLED = ("LCMScheduler", "TCDScheduler")
FLOW_DISTILLED = ("FlowMatchLCMScheduler",)
"""For models that were distilled for them: served where the base names them."""

FLOW_MATCHING = (
    "FlowMatchEulerDiscreteScheduler",
    "UniPCMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "FlowMatchHeunDiscreteScheduler",
)
"""What any model that was trained by flow matching can be sampled with, in the same order.

DEIS takes the option too, but its steps over a flow end elsewhere: of a constant velocity of 1 they
go 0.38 in 4 steps.
"""

MOTION_OVERRIDES = {"beta_schedule": "linear", "clip_sample": False, "steps_offset": 1}
"""What AnimateDiff's makers, and diffusers, say beside a motion adapter."""

_LINEAR = {"thresholding": False, "clip_sample": False}
_SCHEDULE = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
    "prediction_type",
    "shift",
)
"""Options whose default differs from class to class, but whose value is the model's."""
_FLOW_SCHEDULE = (
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "use_dynamic_shifting",
    "shift_terminal",
    "invert_sigmas",
)
"""Options that change which levels a flow-matching scheduler visits, beside its shift."""

_LARGEST_SCHEDULE_DIFFERENCE = 1e-6


@dataclass(frozen=True)
class SchedulerOffer:
    """Which schedulers of a base are served.

    `own` is the class name of the video model's scheduler, the default of a request; `offered` are
    the schedulers by class name, the own one first; `not_offered` says of each other class why not;
    `warnings` are sentences about what is served but may not be what was meant.
    """

    own: str
    offered: Mapping[str, Any]
    not_offered: Mapping[str, str]
    warnings: tuple[str, ...]

    def in_words(self) -> str:
        """What is offered and what is not, a line each."""
        lines = [f"schedulers: {self.own} (default), {', '.join(list(self.offered)[1:])}"]
        lines += [f"not offered: {name} {reason}" for name, reason in self.not_offered.items()]
        return "\n".join(lines)


def offered_schedulers(base: Base) -> SchedulerOffer:
    """What a base's schedulers come to; loads their configurations alone.

    Raises `BaseFolderError`, in one sentence that names file and value, if the video model's
    scheduler cannot be served at the base's default number of steps, the image model's has no
    noise schedule to unlearn with, or the video model cannot be exported at all.
    """
    base.check_exportable()
    _check_noise(base)
    own = base.t2v_scheduler()
    name, steps = type(own).__name__, base.spec.clip.num_inference_steps
    _check_own(base, own, steps)
    others, not_offered = _others(_Own(own, f"{name} {sorted(own.config.items())}"), steps)
    distilled = {
        other: "is for models distilled for it: name it as class in schedulers.t2v of base.yaml"
        for other in (FLOW_DISTILLED if is_flow_matching(own) else DISTILLED)
        if other != name
    }
    return SchedulerOffer(name, {name: own} | others, not_offered | distilled, _warnings(base))


@dataclass(frozen=True)
class _Own:
    """The video model's scheduler; `text` has its class and options, and says which are equal."""

    scheduler: Any = field(compare=False)
    text: str


@lru_cache(maxsize=8)
def _others(own: _Own, steps: int) -> tuple[dict[str, Any], dict[str, str]]:
    """The other schedulers that can stand for it, and of the rest why not; both by class name."""
    offered, not_offered = {}, {}
    for name in FLOW_MATCHING if is_flow_matching(own.scheduler) else OFFERED:
        if name == type(own.scheduler).__name__:
            continue
        try:
            offered[name] = _derived(own.scheduler, name, steps)
        except BaseFolderError as error:
            not_offered[name] = str(error)
    return offered, not_offered


def _check_noise(base: Base) -> None:
    """Raise `BaseFolderError` unless the model that makes pictures has its noise process."""
    with about_base(base.name):
        _ = hollow_model(base, "image").process


def _check_own(base: Base, own: Any, steps: int) -> None:
    from unsee.models.sampling.unit_impulses import acting_nonlinear_options, sampler_table

    try:
        sampler_table(own, steps)
    except BaseFolderError as error:
        advice = "change its options"
        if own.config.get("rescale_betas_zero_snr") and "not finite" in str(error):
            advice = (
                "with rescale_betas_zero_snr the first step divides by zero where prediction_type "
                f"is {own.config.get('prediction_type')!r}: change one of the two"
            )
        elif clamping := acting_nonlinear_options(own):
            advice = f"set {clamping[0]} to false"
        raise BaseFolderError(
            f"base {base.name!r}: the scheduler in {_file(base, base.spec.t2v)} is a "
            f"{type(own).__name__} that {error}; {advice} in that file, or in schedulers.t2v of "
            "base.yaml, which may also name another class"
        ) from error


def _derived(own: Any, name: str, steps: int) -> Any:
    """The scheduler `name` with the options of `own`, if it can stand for it.

    Raises `BaseFolderError` in words that follow the name.
    """
    from unsee.models.sampling.unit_impulses import sampler_table

    loader = scheduler_class(name)
    if loader is None:
        raise BaseFolderError("is not in this diffusers")
    known = inspect.signature(loader.__init__).parameters
    schedule = {key: own.config[key] for key in _SCHEDULE if key in own.config and key in known}
    schedule |= flow_options(own, known)
    try:
        with quiet_libraries():
            other = loader.from_config({**own.config, **_LINEAR}, **schedule)
    except (ImportError, NotImplementedError, TypeError, ValueError) as error:
        raise BaseFolderError(f"cannot be made of these options: {error}") from error
    if not _same_schedule(own, other):
        raise BaseFolderError("has another noise schedule: it lacks an option that this base sets")
    sampler_table(other, steps)
    return other


def _same_schedule(own: Any, other: Any) -> bool:
    if is_flow_matching(own):
        known = inspect.signature(type(other).__init__).parameters
        return all(name in known or not own.config.get(name) for name in _FLOW_SCHEDULE)
    name = "alphas_cumprod" if hasattr(own, "alphas_cumprod") else "sigmas"
    ours, theirs = getattr(own, name), getattr(other, name, None)
    if theirs is None or len(ours) != len(theirs):
        return False
    return float((ours - theirs).abs().max()) <= _LARGEST_SCHEDULE_DIFFERENCE


def _warnings(base: Base) -> tuple[str, ...]:
    """What is said of a motion adapter whose noise schedule is the image model's."""
    schedule = base.t2v_scheduler().config.get("beta_schedule")
    if base.spec.motion_adapter is None or base.spec.schedulers.t2v or schedule == "linear":
        return ()
    options = ", ".join(f"{name}: {str(v).lower()}" for name, v in MOTION_OVERRIDES.items())
    return (
        f"base {base.name!r}: the motion adapter {base.spec.motion_adapter} is sampled with "
        f"beta_schedule {schedule}, which is the image model's; AnimateDiff's adapters were "
        f"trained with linear: write schedulers: {{t2v: {{{options}}}}} in base.yaml, or what its "
        "makers say",
    )


def _file(base: Base, source: str) -> str:
    place = source_place(base.folder, source)
    return str(Path(str(place)) / "scheduler" / "scheduler_config.json")
