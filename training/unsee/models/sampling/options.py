"""Schedulers with the options that `base.yaml` sets, and copies for a pipeline to use up."""

import copy
import importlib
import inspect
import math
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import Field

from unsee.core.errors import BaseFolderError
from unsee.core.validation import ClosedModel
from unsee.models.quiet import quiet_libraries

_NO_CLAMP = (("clip_sample", False), ("thresholding", False))
"""What holds of every scheduler that has no such option."""


class SchedulerOptions(ClosedModel):
    """Options in the place of those in the models' scheduler files; `class` names another class.

    A motion adapter has a noise schedule of its own, and a distilled model a sampler.
    """

    t2i: dict[str, Any] = Field(default_factory=dict)
    t2v: dict[str, Any] = Field(default_factory=dict)


def with_overrides(scheduler: Any, overrides: Mapping[str, Any], base: str, field: str) -> Any:
    """`scheduler` with options of `base.yaml` in the place of its file's; `class` names its class.

    Where both classes match flows, the noise levels stay shifted as they are. `field` is where the
    options stand, for sentences. Raises `BaseFolderError` for a class that
    diffusers lacks, an option that the class lacks, and a value that it refuses.
    """
    if not overrides:
        return scheduler
    options = dict(overrides)
    name = str(options.pop("class", type(scheduler).__name__))
    loader = scheduler_class(name)
    if loader is None:
        raise BaseFolderError(f"base {base!r}: {field} names the class {name}, not in diffusers")
    known = [option for option in inspect.signature(loader.__init__).parameters if option != "self"]
    shifted = flow_options(scheduler, known) if type(scheduler) is not loader else {}
    options = {k: v for k, v in options.items() if k in known or (k, v) not in _NO_CLAMP}
    if unknown := sorted(set(options) - set(known)):
        raise BaseFolderError(
            f"base {base!r}: {field} sets {unknown[0]}, which a {name} has not; it has "
            f"{', '.join(known)}"
        )
    try:
        with quiet_libraries():
            return loader.from_config(scheduler.config, **{**shifted, **options})
    except (ImportError, NotImplementedError, TypeError, ValueError) as error:
        raise BaseFolderError(f"base {base!r}: {field} does not fit a {name}: {error}") from error


def is_flow_matching(scheduler: Any) -> bool:
    """Whether it walks the straight lines of flow matching, as its class or its options say."""
    return "flow" in type(scheduler).__name__.lower() or bool(
        scheduler.config.get("use_flow_sigmas")
    )


def flow_shift(scheduler: Any) -> float:
    """By how much a flow-matching scheduler shifts its noise levels towards pure noise.

    Raises `BaseFolderError` if that is no positive number.
    """
    known = inspect.signature(type(scheduler).__init__).parameters
    name = "flow_shift" if "flow_shift" in known else "shift"
    shift = scheduler.config.get(name, 1.0)  # which may also hold the other, of a class before
    if not isinstance(shift, int | float) or not 0 < shift < math.inf:
        raise BaseFolderError(
            f"the {type(scheduler).__name__} has a shift of {shift!r}; give it a number above 0, "
            "such as 1.0, which shifts nothing"
        )
    return float(shift)


def flow_options(scheduler: Any, known: Collection[str]) -> dict[str, Any]:
    """The options with which a class that has the options `known` walks as `scheduler` does.

    None for a scheduler that matches no flow. Classes for flow matching alone call the shift
    `shift`; those for diffusions too call it `flow_shift`, and are told what to do.
    """
    if not is_flow_matching(scheduler):
        return {}
    shift = flow_shift(scheduler)
    if "flow_shift" in known:
        return {
            "use_flow_sigmas": True,
            "prediction_type": "flow_prediction",
            "flow_shift": shift,
        }
    return {"shift": shift} if "shift" in known else {}


def fresh(scheduler: Any) -> Any:
    """A copy of a scheduler that has made no step yet; KDPM2's take half a second to be made anew.

    It has all that the loop of diffusers' pipelines asks of one: flow matching has no
    `scale_model_input` and no `init_noise_sigma` there, which change nothing then.
    """
    copied = copy.deepcopy(scheduler)
    if not hasattr(copied, "scale_model_input"):
        copied.scale_model_input = lambda sample, timestep: sample
    if not hasattr(copied, "init_noise_sigma"):
        copied.init_noise_sigma = 1.0
    return copied


def scheduler_class(name: str) -> Any:
    """The scheduler class `name` of diffusers, None if there is none."""
    with quiet_libraries():
        found = getattr(importlib.import_module("diffusers"), name, None)
    return found if name.endswith("Scheduler") else None
