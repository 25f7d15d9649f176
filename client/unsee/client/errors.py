"""The errors a user of Unsee can meet, as one tree.

    UnseeError
    ├── InputError              what the caller gave is wrong: option, base, concept, policy, file
    └── ServerError             the Triton server did not do what was asked
        ├── ServerUnreachable   nobody answers at the address
        ├── RequestRejected     the server answered with an error status
        ├── DeadlineExceeded    the caller's time ran out
        └── Cancelled           the request was cancelled before it finished

A message is one sentence: what was wrong, with which value, what to do next. The other packages
derive their few errors from these. This module knows neither gRPC nor the command line.
"""

from __future__ import annotations


class UnseeError(Exception):
    """Base of every error whose message is meant for the user; `exit_code` is the command's."""

    exit_code = 1


class InputError(UnseeError):
    """What the caller gave is wrong: an option, a base, a concept, a policy or a file."""

    exit_code = 2


class ServerError(UnseeError):
    """The server did not do what was asked.

    `retryable` says that it had not begun when it refused, and that asking later may help.
    """

    exit_code = 3
    retryable = False


class ServerUnreachable(ServerError):
    """Nobody answers at the server's address, or the connection broke."""


class RequestRejected(ServerError):
    """The server answered with an error.

    Args:
        message: the server's own sentence.
        status: the gRPC status name, such as `"INVALID_ARGUMENT"` or `"NOT_FOUND"`.
        retry_after_s: when the server says asking again may help; None if it did not say.
    """

    def __init__(self, message: str, status: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


class DeadlineExceeded(ServerError):
    """The caller's time ran out before the server finished."""


class Cancelled(ServerError):
    """The request was cancelled before it finished."""
