"""Connections over gRPC: one for ordinary code and one for asyncio.

Knows gRPC; knows no model and no policy of what to do about a failure.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
from tritonclient.grpc import service_pb2_grpc

from unsee.client.wire.channel import Address
from unsee.client.wire.transport import CallFailed, Silence
from unsee.core.errors import InputError

MAX_MESSAGE_BYTES = 256 * 1024 * 1024
OPTIONS = [
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
]
RETRY_AFTER = "retry-after-ms"
NEVER_SENT = "failed to connect to all addresses"
"""gRPC's own words when a call found no connection and could not make one."""


@dataclass(frozen=True)
class GrpcServer:
    """The server at an address."""

    address: Address

    def connect(self) -> GrpcTransport:
        """A connection for ordinary code; usable from several threads."""
        return GrpcTransport(self.address)

    def connect_async(self) -> AioTransport:
        """A connection for the event loop that first uses it."""
        return AioTransport(self.address)


class GrpcTransport:
    """See `Transport`."""

    def __init__(self, address: Address) -> None:
        self._metadata = address.metadata
        self._channel = address.channel(grpc, OPTIONS)
        self._stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def ask(self, method: str, request: Any, timeout_s: float) -> Any:
        call = getattr(_open(self._stub), method)
        try:
            return call(request, timeout=timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise _failed(error) from error

    def open(self, request: Any, timeout_s: float) -> GrpcCall:
        call = _open(self._stub).ModelStreamInfer
        return GrpcCall(call(iter([request]), timeout=timeout_s, metadata=self._metadata))

    def close(self) -> None:
        self._stub = None
        self._channel.close()


class GrpcCall:
    """See `Call`."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._watch: _Watch | None = None

    def next(self, idle_timeout_s: float | None) -> Any:
        if idle_timeout_s is not None and self._watch is None:
            self._watch = _Watch(self._call, idle_timeout_s)
        try:
            message = next(self._call, None)
        except grpc.RpcError as error:
            if self._watch is not None and self._watch.bit:
                raise Silence from error
            raise _failed(error) from error
        if self._watch is not None:
            self._watch.arrived(message is None)
        return message

    def cancel(self) -> None:
        if self._watch is not None:
            self._watch.arrived(last=True)
        self._call.cancel()


class _Watch:
    """A thread that cancels a call in which nothing arrives: gRPC's reads know no time limit."""

    def __init__(self, call: Any, idle_timeout_s: float) -> None:
        self.bit = False
        self._call = call
        self._idle_timeout_s = idle_timeout_s
        self._last_sign = time.monotonic()
        self._over = threading.Event()
        threading.Thread(target=self._run, name="unsee-idle-watch", daemon=True).start()

    def arrived(self, last: bool) -> None:
        self._last_sign = time.monotonic()
        if last:
            self._over.set()

    def _run(self) -> None:
        while not self._over.wait(self._left_s()):
            if self._left_s() <= 0:
                self.bit = True
                self._call.cancel()
                return

    def _left_s(self) -> float:
        return max(0.0, self._last_sign + self._idle_timeout_s - time.monotonic())


class AioTransport:
    """See `AsyncTransport`. The channel is made where it is first used: it belongs to a loop."""

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

    def open(self, request: Any, timeout_s: float) -> AioCall:
        call = self._made_stub().ModelStreamInfer
        return AioCall(call(iter([request]), timeout=timeout_s, metadata=self._address.metadata))

    async def close(self) -> None:
        self._stub, self._closed = None, True
        if self._channel is not None:
            await self._channel.close()

    def _made_stub(self) -> Any:
        if self._channel is None and not self._closed:
            self._channel = self._address.channel(grpc.aio, OPTIONS)
            self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        return _open(self._stub)


class AioCall:
    """See `AsyncCall`."""

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
