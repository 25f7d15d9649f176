"""Schedulers with the options that `base.yaml` sets, and copies for a pipeline to use up."""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from unsee.core.errors import BaseFolderError
from unsee.models.quiet import quiet_libraries

_NO_CLAMP = (("clip_sample", False), ("thresholding", False))
"""What holds of every scheduler that has no such option."""


class SchedulerOptions(BaseModel):
    """Options in the place of those in the models' scheduler files; `class` names another class.

    A motion adapter has a noise schedule of its own, and a distilled model a sampler.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    t2i: dict[str, Any] = {}
    t2v: dict[str, Any] = {}


def with_overrides(scheduler: Any, overrides: Mapping[str, Any], base: str, field: str) -> Any:
    """`scheduler` with options of `base.yaml` in the place of its file's; `class` names its class.

    `field` is where the options stand, for sentences. Raises `BaseFolderError` for a class that
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
    options = {k: v for k, v in options.items() if k in known or (k, v) not in _NO_CLAMP}
    if unknown := sorted(set(options) - set(known)):
        raise BaseFolderError(
            f"base {base!r}: {field} sets {unknown[0]}, which a {name} has not; it has "
            f"{', '.join(known)}"
        )
    try:
        with quiet_libraries():
            return loader.from_config(scheduler.config, **options)
    except (ImportError, NotImplementedError, TypeError, ValueError) as error:
        raise BaseFolderError(f"base {base!r}: {field} does not fit a {name}: {error}") from error


def fresh(scheduler: Any) -> Any:
    """A scheduler of the same class and configuration that has made no step yet.

    It has all that the loop of diffusers' pipelines asks of one: flow matching has no
    `scale_model_input` and no `init_noise_sigma` there, which change nothing then.
    """
    with quiet_libraries():
        copy = type(scheduler).from_config(scheduler.config)
    if not hasattr(copy, "scale_model_input"):
        copy.scale_model_input = lambda sample, timestep: sample
    if not hasattr(copy, "init_noise_sigma"):
        copy.init_noise_sigma = 1.0
    return copy


def scheduler_class(name: str) -> Any:
    """The scheduler class `name` of diffusers, None if there is none."""
    with quiet_libraries():
        found = getattr(importlib.import_module("diffusers"), name, None)
    return found if name.endswith("Scheduler") else None
