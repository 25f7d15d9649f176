"""What is wrong with an input, in words that never repeat its values: they may be secret."""

from __future__ import annotations

from pydantic import ValidationError

from unsee.core.validation import problems as found_by
from unsee.gateway.callers.refusal import quoted


def problems(error: ValidationError) -> list[str]:
    """Each problem of a pydantic validation as `field: what is wrong`."""
    return [
        f"{quoted(field or 'all')[1:-1]}: {reason}"
        for field, reason in found_by(error, with_values=False)
    ]
