"""What pydantic found wrong with a file or a message, as one line that names the fields."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError


def describe(error: ValidationError) -> str:
    """Every problem of a validation as `field: what is wrong`, separated by semicolons."""
    return "; ".join(f"{_field(e['loc'])}: {_reason(e)}" for e in error.errors())


def _field(location: Iterable[str | int]) -> str:
    path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in location)
    return path.removeprefix(".") or "file"


def _reason(error: Any) -> str:
    match error["type"]:
        case "missing":
            return "this field is missing"
        case "extra_forbidden":
            return "this field is not known"
        case "value_error":
            return str(error["ctx"]["error"])
        case _:
            message = str(error["msg"])
            return f"{message[:1].lower()}{message[1:]} (got {error['input']!r})"
