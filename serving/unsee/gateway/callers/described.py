"""What is wrong with an input, in words that never repeat its values: they may be secret."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from unsee.gateway.callers.refusal import quoted


def problems(error: ValidationError) -> list[str]:
    """Each problem of a pydantic validation as `field: what is wrong`."""
    found = error.errors(include_url=False, include_input=False)
    return [f"{_field(one['loc'])}: {_reason(one)}" for one in found]


def _field(location: tuple[str | int, ...]) -> str:
    path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in location)
    return quoted(path.removeprefix(".") or "all")[1:-1]


def _reason(problem: Any) -> str:
    match problem["type"]:
        case "missing":
            return "this field is missing"
        case "extra_forbidden":
            return "this field is not known"
        case _:
            message = str(problem["msg"]).removeprefix("Value error, ")
            return f"{message[:1].lower()}{message[1:]}"
