"""The one error that a caller of the gateway gets to read; it knows no transport."""

from __future__ import annotations

from typing import Literal

from pydantic import ValidationError

from unsee.core import validation
from unsee.core.errors import UnseeError

Status = Literal[
    "INVALID_ARGUMENT",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "NOT_FOUND",
    "UNIMPLEMENTED",
    "RESOURCE_EXHAUSTED",
    "DEADLINE_EXCEEDED",
    "UNAVAILABLE",
    "CANCELLED",
    "INTERNAL",
]
"""Names of gRPC statuses."""

Reason = Literal[
    "credentials",
    "permission",
    "request",
    "too_large",
    "too_slow",
    "gateway_full",
    "tenant_full",
    "connections",
    "wait",
    "deadline",
    "draining",
    "model",
    "model_server",
    "gateway",
]
"""Why, as the metrics count it."""


class Refusal(UnseeError):
    """A request that gets no clip.

    Args:
        message: one sentence, free of paths, tracebacks and other tenants' names.
        retry_after_s: when asking again may help; None if it does not.
    """

    def __init__(
        self,
        status: Status,
        reason: Reason,
        message: str,
        *,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status: Status = status
        self.reason: Reason = reason
        self.retry_after_s = retry_after_s


def gateway_failed() -> Refusal:
    """What a caller reads when the gateway itself has a fault; the log has the rest."""
    return Refusal("INTERNAL", "gateway", "the gateway failed; its log says why")


def invalid(message: str) -> Refusal:
    """The refusal of a request that is wrong in itself."""
    return Refusal("INVALID_ARGUMENT", "request", message)


def quoted(text: str, limit: int = 64) -> str:
    """`text` in quotes, fit for a message: control characters escaped, long text cut."""
    return ascii(text if len(text) <= limit else text[:limit] + "...")


def problems(error: ValidationError) -> list[str]:
    """Each problem of a validation as `field: what is wrong`, without the values: they may be
    secret.
    """
    return [
        f"{quoted(field or 'all')[1:-1]}: {reason}"
        for field, reason in validation.problems(error, with_values=False)
    ]
