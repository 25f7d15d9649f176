"""What went wrong in a call, as the errors and sentences that a user gets.

Knows gRPC's statuses by name and Triton's own words; knows no connection.
"""

from __future__ import annotations

import re

from unsee.client.wire.transport import CallFailed
from unsee.core.errors import (
    Cancelled,
    DeadlineExceeded,
    RequestRejected,
    ServerError,
    ServerUnreachable,
)

ERROR_TEXT = re.compile(
    r"(CANCELLED|UNKNOWN|INVALID_ARGUMENT|DEADLINE_EXCEEDED|NOT_FOUND|ALREADY_EXISTS"
    r"|PERMISSION_DENIED|UNAUTHENTICATED|RESOURCE_EXHAUSTED|FAILED_PRECONDITION|ABORTED"
    r"|OUT_OF_RANGE|UNIMPLEMENTED|INTERNAL|UNAVAILABLE|DATA_LOSS): (.+)",
    re.DOTALL,
)
"""An error inside a stream, as `text_to_video` words it: the status and a sentence."""
STOPPING = re.compile(
    r"has no available versions|not at ready state|server is stopping"
    r"|stopped accepting new inference requests",
    re.IGNORECASE,
)
"""Triton's own words for a request that it does not begin, as it or its model is going away."""
LATER = ("RESOURCE_EXHAUSTED", "UNAVAILABLE")


def rejected(text: str) -> RequestRejected:
    """An error inside a stream. Those of `text_to_video` carry a status, Triton's own do not."""
    match = ERROR_TEXT.fullmatch(text)
    if match is None and STOPPING.search(text):
        return draining()
    error = RequestRejected(match[2], match[1]) if match else RequestRejected(text, "UNKNOWN")
    error.retryable = error.status == "UNAVAILABLE"  # its queue is full, or no revision is active
    return error


def draining() -> RequestRejected:
    """Triton is being stopped, or its model is being replaced."""
    error = RequestRejected(
        "the server is stopping or changing its models and takes no request; ask again later",
        "UNAVAILABLE",
    )
    error.retryable = True
    return error


def translated(failure: CallFailed, url: str, timeout_s: float) -> ServerError:
    """The status that a stream ended with. Only a hint of the server's own makes it retryable."""
    if failure.status == "DEADLINE_EXCEEDED":
        return deadline_exceeded(url, timeout_s)
    if failure.status == "CANCELLED":
        return Cancelled(f"the request to {url} was cancelled before it finished")
    if STOPPING.search(failure.details):
        return draining()
    details = failure.details or "no reason given"
    error = RequestRejected(details, failure.status, failure.retry_after_s)
    error.retryable = failure.status in LATER and failure.retry_after_s is not None
    return error


def unreachable(url: str, *, refused: bool) -> ServerUnreachable:
    """Nothing was sent: nobody listens there (`refused`), or whoever listens is silent."""
    error = ServerUnreachable(
        f"no server answers at {url}; "
        "start one with: unsee serve, or give the address of a running one"
    )
    error.retryable = refused
    return error


def stopped_answering(url: str) -> ServerUnreachable:
    """It was there when the request began."""
    return ServerUnreachable(f"the server at {url} stopped answering before the clip was finished")


def gave_no_sign(url: str, idle_timeout_s: float | None) -> DeadlineExceeded:
    """The server answers, its model does not."""
    return DeadlineExceeded(
        f"the server at {url} is there but sent nothing for {idle_timeout_s or 0:g} s; "
        "allow a longer idle_timeout_s, or look at the server's log"
    )


def deadline_exceeded(url: str, timeout_s: float) -> DeadlineExceeded:
    """The caller's time ran out."""
    return DeadlineExceeded(
        f"no clip from {url} within {timeout_s:g} s; "
        "allow more time, or ask for fewer steps or frames"
    )


def no_clip(url: str) -> ServerError:
    """The stream ended well, and too early."""
    return ServerError(f"the server at {url} ended the stream without a clip")
