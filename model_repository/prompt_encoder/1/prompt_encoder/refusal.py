"""The one error that a client gets to read: the name of a status and a sentence."""

from __future__ import annotations

from typing import Literal

Status = Literal["INVALID_ARGUMENT", "NOT_FOUND", "UNAVAILABLE", "INTERNAL", "CANCELLED"]


class Refusal(Exception):
    """A request that gets no clip. The message is one sentence, free of paths and tracebacks.

    `status` is the name of a gRPC status.
    """

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status: Status = status


def quoted(text: str, limit: int = 64) -> str:
    """`text` in quotes, fit for an error message: control characters escaped, long text cut."""
    return repr(text if len(text) <= limit else text[:limit] + "…")
