"""What the clients need of a connection, so that it can be gRPC, asyncio's gRPC or a test's own.

Messages are KServe v2 protobufs. Knows no model and no gRPC; a failed call is a `CallFailed`,
whoever carried it.
"""

from __future__ import annotations

from typing import Any, Protocol


class CallFailed(Exception):
    """A call ended with an error status.

    Args:
        status: the name of a gRPC status.
        details: the server's words, or the transport's.
        retry_after_s: the server's hint in the trailing metadata.
        never_sent: the connection could not be made, so the server saw nothing of the call.
    """

    def __init__(
        self,
        status: str,
        details: str = "",
        *,
        retry_after_s: float | None = None,
        never_sent: bool = False,
    ) -> None:
        super().__init__(f"{status}: {details}")
        self.status = status
        self.details = details
        self.retry_after_s = retry_after_s
        self.never_sent = never_sent


class Silence(Exception):
    """Nothing arrived for as long as the caller was ready to wait."""


class Call(Protocol):
    """A stream of answers to one request."""

    def next(self, idle_timeout_s: float | None) -> Any:
        """The next message, or None at the end; raises CallFailed or Silence."""

    def cancel(self) -> None:
        """End the call; does nothing if it has ended. May be called from another thread."""


class AsyncCall(Protocol):
    """The same for asyncio."""

    async def next(self, idle_timeout_s: float | None) -> Any:
        """See `Call.next`."""

    def cancel(self) -> None:
        """See `Call.cancel`."""


class Transport(Protocol):
    """An open connection."""

    def ask(self, method: str, request: Any, timeout_s: float) -> Any:
        """One unary call of GRPCInferenceService; raises CallFailed."""

    def open(self, request: Any, timeout_s: float) -> Call:
        """Begin a ModelStreamInfer with one request."""

    def close(self) -> None:
        """Close the connection and cancel what is in flight on it."""


class AsyncTransport(Protocol):
    """The same for asyncio."""

    async def ask(self, method: str, request: Any, timeout_s: float) -> Any:
        """See `Transport.ask`."""

    def open(self, request: Any, timeout_s: float) -> AsyncCall:
        """See `Transport.open`."""

    async def close(self) -> None:
        """See `Transport.close`."""


class Server(Protocol):
    """Whatever can be connected to by both clients."""

    def connect(self) -> Transport:
        """A connection for ordinary code."""

    def connect_async(self) -> AsyncTransport:
        """A connection for the running event loop."""
