"""From a request's tensors to a checked `GenerationRequest`."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from text_to_video.base import Base
from text_to_video.refusal import Refusal, quoted
from text_to_video.request_schema import (
    FROM_BASE,
    INPUTS,
    GenerationRequest,
    Input,
    nearest_fitting,
)

SEED_BITS = 32  # of a drawn seed: short enough to be typed, exact in every JSON reader

Array = npt.NDArray[Any]


def parse_request(tensors: Mapping[str, Array], base: Base) -> GenerationRequest:
    """Check the inputs (each of shape [1]) against the base's limits; raises Refusal.

    Whether the scheduler offers this number of steps is the sampler table's to say.
    """
    values = {
        name: _value(name, known, tensors[name]) if name in tensors else _default(name, known, base)
        for name, known in INPUTS.items()
    }
    for name, known in INPUTS.items():
        if values[name] is not None:
            _check(name, known, values[name], base)
    return GenerationRequest(**values)


def _default(name: str, known: Input, base: Base) -> Any:
    """What a request that leaves the input out gets; None where the list of policies decides."""
    if known.required:
        raise _invalid(f"{name} is missing")
    if known.default_from == FROM_BASE:
        return getattr(base.defaults, name)
    return secrets.randbits(SEED_BITS) if name == "seed" else known.default


def _value(name: str, known: Input, array: Array) -> Any:
    if array.shape != (1,):
        raise _invalid(f"{name} must hold one value, in a tensor of shape [1]")
    value = array[0]
    if known.python_type is str:
        return value if isinstance(value, str) else _decoded(name, value)
    if isinstance(value, np.floating):  # FP32: 7.1 shall stay 7.1 in the record, not 7.099999904…
        value = str(value)
    return known.python_type(value)


def _decoded(name: str, value: Any) -> str:
    try:
        return bytes(value).decode("utf-8")
    except (UnicodeDecodeError, TypeError):
        raise _invalid(f"{name} is not text in UTF-8") from None


def _check(name: str, known: Input, value: Any, base: Base) -> None:
    """Raises Refusal for a value that the schema or the base does not allow."""
    if name == "prompt" and not value.strip():
        raise _invalid("prompt is empty; say what the clip shall show")
    if known.python_type is str:
        offered = base.schedulers if name == "scheduler" else known.choices
        if offered is not None:
            _check_choice(name, value, offered)
        return
    _check_range(name, value, known.minimum, known.maximum)
    if known.limited_by is not None:
        _check_range(name, value, *getattr(base.limits, known.limited_by))
    if known.multiple_of is not None:
        multiple = getattr(base.limits, known.multiple_of)
        if value % multiple:
            raise _invalid(f"{name} must be a multiple of {multiple}, not {value}")
    if known.one_more_than_multiple_of is not None:
        step = getattr(base.latents, known.one_more_than_multiple_of)
        low, high = getattr(base.limits, name)
        nearest = nearest_fitting(value, step, low, high)
        if value not in nearest:
            numbers = " and ".join(map(str, sorted(nearest)))
            raise _invalid(
                f"{name} must be one more than a multiple of {step}, not {value}; the nearest "
                f"{'is' if len(nearest) == 1 else 'are'} {numbers}"
            )


def _check_choice(name: str, choice: str, offered: Sequence[str]) -> None:
    if choice not in offered:
        names = ", ".join(offered)
        raise _invalid(f"there is no {name} {quoted(choice)}; this server has {names}")


def _check_range(name: str, value: float, low: float | None, high: float | None) -> None:
    if math.isfinite(value) and (low is None or low <= value) and (high is None or value <= high):
        return
    if low is None or high is None:
        wanted = "a finite number" if low is None else f"{low} or more"
    else:
        wanted = f"between {low} and {high}" if low != high else f"{low}"
    raise _invalid(f"{name} must be {wanted}, not {value}")


def _invalid(message: str) -> Refusal:
    return Refusal("INVALID_ARGUMENT", message)
