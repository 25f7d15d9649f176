"""The tables of all schedulers that are served, at every number of steps."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from unsee.core.errors import BaseFolderError
from unsee.models.sampling.sampler_table import Floats, SamplerTable
from unsee.models.sampling.unit_impulses import sampler_table

Tables = Mapping[str, Mapping[int, SamplerTable]]
"""By scheduler and number of steps."""


def sampler_tables(schedulers: Mapping[str, Any], max_steps: int) -> Tables:
    """The tables of `schedulers` (by class name) at 1 … `max_steps` steps.

    A number of steps that diffusers refuses with a scheduler is left out.
    """
    tables: dict[str, dict[int, SamplerTable]] = {name: {} for name in schedulers}
    for name, scheduler in schedulers.items():
        for steps in range(1, max_steps + 1):
            try:
                tables[name][steps] = sampler_table(scheduler, steps)
            except BaseFolderError:
                continue
    return tables


def table_tensors(tables: Tables) -> dict[str, Floats]:
    """The tables as `<scheduler>/<steps>/<field>`, what `samplers.safetensors` holds."""
    tensors: dict[str, Floats] = {}
    for name, by_steps in tables.items():
        for steps, table in by_steps.items():
            for field in ("timesteps", "initial", "pred", "noise"):
                values = getattr(table, field)
                if values is not None:
                    tensors[f"{name}/{steps}/{field}"] = np.ascontiguousarray(values)
    return tensors
