"""The errors a user of Unsee can meet, as one tree::

    UnseeError
    ├── ParityError             an exported graph does not compute what its PyTorch model computes
    ├── UnlearnDiverged         the ascent made a value that is not finite
    ├── EngineBuildFailed       TensorRT made no engine, or would not run one
    ├── InputError              what the caller gave is wrong: option, base, concept, policy, file
    │   ├── BaseFolderError     a base is missing, incomplete or unreadable
    │   ├── DeltaDamaged        a delta folder is incomplete or differs from its card
    │   ├── DeltaMismatch       a delta was made for another text encoder
    │   ├── NotExportable       a base uses something that the exported service cannot reproduce
    │   ├── RepositoryError     a model repository cannot take what was to be written
    │   ├── ProfileError        shapes do not fit the graph that they were given for
    │   ├── TensorRTMissing     the library or the GPU that is needed is not there
    │   ├── FileNotWritable     a file cannot be written: no space, no right, a broken disk
    │   ├── Locked              another process holds a lock, such as that of a policy
    │   ├── RepositoryIncomplete, RevisionUnfit
    │   ├── PublicationRefused  a policy's report is missing, of another encoder, or not good enough
    │   └── InterpreterUnfit, PortInUse
    └── ServerError             the Triton server did not do what was asked
        ├── ServerUnreachable   nobody answers at the address
        ├── ServerNotReady      the server ended, or was not ready in time
        ├── RequestRejected     the server answered with an error status
        ├── DeadlineExceeded    the caller's time ran out
        └── Cancelled           the request was cancelled before it finished

A message is one sentence: what was wrong, with which value, what to do next.
"""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """The first line of what the error says, and the next if it ends in a colon; or its class."""
    first, *others = (str(error).strip() or type(error).__name__).splitlines()
    return f"{first} {others[0].strip()}" if first.endswith(":") and others else first


def printable(text: str) -> str:
    """`text` with the control characters spelled out that a terminal would obey; lines stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


class UnseeError(Exception):
    """Base of every error whose message is meant for the user; `exit_code` is the command's."""

    exit_code = 1


class ParityError(UnseeError):
    """An exported graph differs from its PyTorch model by more than its tolerance."""


class UnlearnDiverged(UnseeError):
    """The loss or a weight stopped being a finite number."""


class EngineBuildFailed(UnseeError):
    """TensorRT refused a graph, made no engine of it or would not run the engine."""


class InputError(UnseeError):
    """What the caller gave is wrong: an option, a base, a concept, a policy or a file."""

    exit_code = 2


class BaseFolderError(InputError):
    """A base is missing, incomplete or unreadable; the message names the component and folder."""


class DeltaDamaged(InputError):
    """A delta folder is incomplete, or its tensors are not those that its card describes."""


class DeltaMismatch(InputError):
    """A delta does not belong to the text encoder that it was to be added to."""


class NotExportable(InputError):
    """A base uses a model or an option that the exported service cannot reproduce."""


class RepositoryError(InputError):
    """A model repository cannot take what was to be written; the message says why."""


class ProfileError(InputError):
    """The sizes of a profile do not fit the graph; the message names the axis."""


class TensorRTMissing(InputError):
    """TensorRT or an NVIDIA GPU is needed here and is missing; the message says what to install."""


class RepositoryIncomplete(InputError):
    """The model repository lacks something that serving needs."""


class FileNotWritable(InputError):
    """A file could not be written: no space, no right, a broken disk."""

    exit_code = 1


class Locked(InputError):
    """Another process, the `holder`, is changing `what`: a policy, a file, a folder."""

    def __init__(self, what: str, holder: str) -> None:
        super().__init__(f"{what} is being changed by {holder}; run this again when that has ended")
        self.holder = holder


class RevisionUnfit(InputError):
    """A revision's files are not what its records say, or are missing; the message names one."""


class PublicationRefused(InputError):
    """A policy's report is missing, was made for another encoder, or misses a threshold."""


class InterpreterUnfit(InputError):
    """The Python that Triton's stub would run cannot serve."""


class PortInUse(InputError):
    """Another process listens on a port that the server was to have."""


class ServerError(UnseeError):
    """The server did not do what was asked.

    `retryable` says that it had not begun when it refused, and that asking later may help.
    """

    exit_code = 3
    retryable = False


class ServerUnreachable(ServerError):
    """Nobody answers at the server's address, or the connection broke."""


class ServerNotReady(ServerError):
    """The server ended, or was not ready in time. The message ends with what its log says."""


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
