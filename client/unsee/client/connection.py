"""Connections to a server: what the clients need of one, and the two over gRPC.

Both clients use the same coroutines. On a connection for ordinary code they block instead of
waiting for an event loop, so that they can be run to their end without one (`Client` does).
Messages are KServe v2 protobufs, and whatever carried a call, one that failed is a `CallFailed`.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from tritonclient.grpc import service_pb2_grpc

from unsee.client.address import Address
from unsee.client.messages import TAKES_BYTES
from unsee.core.errors import InputError

MAX_MESSAGE_BYTES = 256 * 1024 * 1024
OPTIONS = [
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
]
TAKES = (TAKES_BYTES, str(MAX_MESSAGE_BYTES))
"""Tells a gateway what the options say: it refuses a larger clip before it is made."""
RETRY_AFTER = "retry-after-ms"
NEVER_SENT = "failed to connect to all addresses"
"""gRPC's own words when a call found no connection and could not make one."""


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

    async def next(self, idle_timeout_s: float | None) -> Any:
        """The next ModelStreamInferResponse, or None at the end; raises CallFailed or Silence."""

    def cancel(self) -> None:
        """End the call; does nothing if it has ended. May be called from another thread."""


class Connection(Protocol):
    """An open connection."""

    async def ask(self, method: str, request: Any, timeout_s: float) -> Any:
        """The response of one unary call of GRPCInferenceService; raises CallFailed."""

    def open(self, request: Any, timeout_s: float) -> Call:
        """Begin a ModelStreamInfer with one ModelInferRequest."""

    async def pause(self, seconds: float, cancelled: threading.Event) -> None:
        """Wait, or until `cancelled` is set by another thread."""

    async def close(self) -> None:
        """Close the connection and cancel what is in flight on it."""


class Transport(Protocol):
    """Whatever both clients can connect to."""

    def connect(self) -> Connection:
        """A connection for ordinary code, whose coroutines block."""

    def connect_async(self) -> Connection:
        """A connection for the running event loop."""


async def blocking_pause(seconds: float, cancelled: threading.Event) -> None:
    """`Connection.pause` for ordinary code."""
    cancelled.wait(seconds)


async def asyncio_pause(seconds: float, cancelled: threading.Event) -> None:
    """`Connection.pause` for asyncio, where cancelling the task ends it."""
    await asyncio.sleep(seconds)


@dataclass(frozen=True)
class GrpcServer:
    """The server at an address."""

    address: Address

    def connect(self) -> GrpcConnection:
        """A connection for ordinary code; usable from several threads."""
        return GrpcConnection(self.address)

    def connect_async(self) -> AsyncGrpcConnection:
        """A connection for the event loop that first uses it."""
        return AsyncGrpcConnection(self.address)


class GrpcConnection:
    """A gRPC channel for ordinary code."""

    pause = staticmethod(blocking_pause)

    def __init__(self, address: Address) -> None:
        self._metadata = (*address.metadata, TAKES)
        self._channel = address.channel(grpc, OPTIONS)
        self._stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    async def ask(self, method: str, request: Any, timeout_s: float) -> Any:
        call = getattr(_open(self._stub), method)
        try:
            return call(request, timeout=timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise _failed(error) from error

    def open(self, request: Any, timeout_s: float) -> Call:
        call = _open(self._stub).ModelStreamInfer
        return _GrpcCall(call(iter([request]), timeout=timeout_s, metadata=self._metadata))

    async def close(self) -> None:
        self._stub = None
        self._channel.close()


class AsyncGrpcConnection:
    """A gRPC channel for asyncio. It is made where it is first used: it belongs to a loop."""

    pause = staticmethod(asyncio_pause)

    def __init__(self, address: Address) -> None:
        self._address = address
        self._channel: Any = None
        self._stub: Any = None
        self._closed = False

    async def ask(self, method: str, request: Any, timeout_s: float) -> Any:
        call = getattr(self._made_stub(), method)
        try:
            return await call(request, timeout=timeout_s, metadata=self._address.metadata)
        except grpc.RpcError as error:
            raise _failed(error) from error

    def open(self, request: Any, timeout_s: float) -> Call:
        call = self._made_stub().ModelStreamInfer
        metadata = (*self._address.metadata, TAKES)
        return _AsyncGrpcCall(call(iter([request]), timeout=timeout_s, metadata=metadata))

    async def close(self) -> None:
        self._stub, self._closed = None, True
        if self._channel is not None:
            await self._channel.close()

    def _made_stub(self) -> Any:
        if self._channel is None and not self._closed:
            self._channel = self._address.channel(grpc.aio, OPTIONS)
            self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        return _open(self._stub)


class _GrpcCall:
    def __init__(self, call: Any) -> None:
        self._call = call
        self._gave_up = False

    async def next(self, idle_timeout_s: float | None) -> Any:
        timer = None  # gRPC's own reads have no time limit
        if idle_timeout_s is not None:
            timer = threading.Timer(idle_timeout_s, self._give_up)
            timer.daemon = True
            timer.start()
        try:
            return next(self._call, None)
        except grpc.RpcError as error:
            if self._gave_up:
                raise Silence from error
            raise _failed(error) from error
        finally:
            if timer is not None:
                timer.cancel()

    def cancel(self) -> None:
        self._call.cancel()

    def _give_up(self) -> None:
        self._gave_up = True
        self._call.cancel()


class _AsyncGrpcCall:
    def __init__(self, call: Any) -> None:
        self._call = call

    async def next(self, idle_timeout_s: float | None) -> Any:
        try:
            async with asyncio.timeout(idle_timeout_s):
                message = await self._call.read()
        except TimeoutError as error:
            raise Silence from error
        except grpc.RpcError as error:
            raise _failed(error) from error
        return None if message is grpc.aio.EOF else message

    def cancel(self) -> None:
        self._call.cancel()


def _open(stub: Any) -> Any:
    if stub is None:
        raise InputError("this client is closed; make another one")
    return stub


def _failed(error: Any) -> CallFailed:
    details = error.details() or ""
    hints = [value for key, value in error.trailing_metadata() or () if key == RETRY_AFTER]
    retry_after_s = None
    with suppress(ValueError, IndexError):
        retry_after_s = max(0.0, float(hints[0]) / 1000)
    status = str(error.code().name)
    never_sent = status == "UNAVAILABLE" and details.startswith(NEVER_SENT)
    return CallFailed(status, details, retry_after_s=retry_after_s, never_sent=never_sent)
