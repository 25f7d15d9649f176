"""The gateway over gRPC: a few methods of KServe v2, each from bytes to bytes.

Messages are parsed here and not by gRPC, so that malformed ones get a sentence and no method exists
by accident. Knows how gRPC says things, not what is allowed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from importlib.metadata import version
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from unsee.client.messages import TAKES_BYTES
from unsee.core.sizes import both_in_words
from unsee.gateway.callers.credentials import Presented
from unsee.gateway.callers.refusal import Refusal, gateway_failed
from unsee.gateway.callers.request import ClipRequest, check_model, read_protobuf
from unsee.gateway.callers.settings import Limits, Settings, Tenant, Tls
from unsee.gateway.core import Deadline, Gateway
from unsee.gateway.fronts.open_calls import OpenCalls, address_of
from unsee.repository.base import Base

SERVICE = "/inference.GRPCInferenceService/"
CLOSED = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
"""All methods of KServe v2: those that are not served are refused by name."""
MAX_METADATA_BYTES = 8 * 1024
METADATA_TIMEOUT_S = 5.0
RECORD_BYTES = 32 * 1024
"""Room for the record, with its texts, in the message that holds a clip's frames."""
RETRY_AFTER = "retry-after-ms"
IDLE_CONNECTION_MS = 60_000
"""How long a connection without a call stays open."""
CONNECTIONS_PER_CALL = 16
"""How many connections are taken for each call that may be open: most clients keep one idle."""

Unary = Callable[[bytes, Any], Awaitable[Any]]


class GrpcFront(grpc.GenericRpcHandler):  # type: ignore[misc]
    """The methods that callers reach, over one core."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._read_timeout_s = gateway.settings.limits.read_timeout_s
        limits = gateway.settings.limits
        self._calls = OpenCalls(limits, lambda: gateway.ledger.turned_away("grpc"))
        methods = {
            "ServerLive": self._open(self._live),
            "ServerReady": self._open(self._ready),
            "ServerMetadata": self._known(self._metadata),
            "ModelReady": self._known(self._model_ready),
            "ModelMetadata": self._known(self._model_metadata),
            "ModelStreamInfer": self._stream,
        }
        # All are handled as streams: gRPC hands a unary call over when its message has come, and
        # until then no deadline of ours could end it.
        self._methods = {
            name: grpc.stream_stream_rpc_method_handler(method) for name, method in methods.items()
        }

    def service(self, handler_call_details: Any) -> Any:
        """The handler of a call; what is not served gets one that refuses."""
        name = handler_call_details.method.removeprefix(SERVICE)
        if name in self._methods:
            return self._methods[name]
        return grpc.stream_stream_rpc_method_handler(_closed if name in CLOSED else _unknown)

    def _open(self, method: Unary) -> Callable[[Any, Any], Awaitable[None]]:
        """A unary method that anybody may call."""

        async def call(requests: Any, context: Any) -> None:
            try:
                async with self._calls.of_peer(address_of(context.peer())):
                    message = await context.read()
                    await _write_one(context, message, method, self._read_timeout_s)
            except Refusal as refusal:
                await _abort(context, refusal)

        return call

    def _known(self, method: Unary) -> Callable[[Any, Any], Awaitable[None]]:
        """A unary method for tenants."""

        async def call(requests: Any, context: Any) -> None:
            try:
                with self._calls.of_tenant(self._tenant(context)):
                    message = await self._next_message(context)
                    if message is None:
                        raise Refusal("INVALID_ARGUMENT", "too_slow", "the call brought no message")
                    await _write_one(context, message, method, self._read_timeout_s)
            except Refusal as refusal:
                await _abort(context, refusal)

        return call

    async def _live(self, request: bytes, context: Any) -> Any:
        return service_pb2.ServerLiveResponse(live=True)

    async def _ready(self, request: bytes, context: Any) -> Any:
        return service_pb2.ServerReadyResponse(ready=await self._is_ready())

    async def _metadata(self, request: bytes, context: Any) -> Any:
        return service_pb2.ServerMetadataResponse(name="unsee gateway", version=version("unsee"))

    async def _model_ready(self, request: bytes, context: Any) -> Any:
        asked = _parsed(service_pb2.ModelReadyRequest, request)
        check_model(asked.name, asked.version)
        return service_pb2.ModelReadyResponse(ready=await self._is_ready())

    async def _model_metadata(self, request: bytes, context: Any) -> Any:
        asked = _parsed(service_pb2.ModelMetadataRequest, request)
        check_model(asked.name, asked.version)
        return await self._gateway.upstream.metadata(METADATA_TIMEOUT_S)

    async def _is_ready(self) -> bool:
        return not self._gateway.draining and (await self._gateway.readiness.health()).ready

    async def _stream(self, requests: Any, context: Any) -> None:
        """Clips one after the other: each request of the stream waits for the one before."""
        try:
            tenant = self._tenant(context)
            with self._calls.of_tenant(tenant):
                message = await self._next_message(context)
                if message is None:
                    raise Refusal("INVALID_ARGUMENT", "too_slow", "the stream brought no request")
                while message is not None:
                    tenant = self._tenant(context)  # which may have been changed or ended since
                    await self._answer(message, tenant, context)
                    message = await self._next_message(context)
        except Refusal as refusal:
            await _abort(context, refusal)

    async def _answer(self, message: bytes, tenant: Tenant, context: Any) -> None:
        client_id = ""

        def read() -> tuple[Any, str]:
            nonlocal client_id
            request, client_id = read_protobuf(message)
            self._check_size(request, context)
            return request, client_id

        deadline = self._gateway.deadline(context.time_remaining())
        async with aclosing(self._gateway.clip("grpc", tenant, read, deadline)) as answers:
            async for answer in answers:
                answer.message.id = client_id
                response = service_pb2.ModelStreamInferResponse(infer_response=answer.message)
                await self._write(context, response.SerializeToString(), deadline)

    def _check_size(self, request: ClipRequest, context: Any) -> None:
        """Refuse at once what the caller could not receive after all the work."""
        base = self._gateway.repository.base()
        takes_bytes = _takes_bytes(context) or self._gateway.settings.limits.grpc_receive_bytes
        if base is None or takes_bytes is None:
            return
        num_bytes = _largest_message(request, base)
        if num_bytes > takes_bytes:
            needed, taken = both_in_words(num_bytes, takes_bytes)
            what = "a part of the clip" if request.stream_frames else "the clip"
            raise Refusal(
                "INVALID_ARGUMENT",
                "too_large",
                f"{what} would be one message of {needed}, and this caller takes {taken}; let "
                f"it take more and say so in the metadata {TAKES_BYTES}, ask for fewer frames or "
                "pixels, or ask over HTTP, which has no such limit",
            )

    async def _write(self, context: Any, message: bytes, deadline: Deadline) -> None:
        try:
            async with asyncio.timeout(self._read_timeout_s):
                await deadline.hold(context.write(message))
        except TimeoutError:
            raise Refusal(
                "CANCELLED", "too_slow", "the answer was not taken; read the stream faster"
            ) from None

    async def _next_message(self, context: Any) -> bytes | None:
        """The next request of the stream; None if there is none, or none came in time."""
        try:
            async with asyncio.timeout(self._read_timeout_s):
                message = await context.read()
        except TimeoutError:
            return None
        return None if message is grpc.aio.EOF else message

    def _tenant(self, context: Any) -> Tenant:
        metadata = context.invocation_metadata() or ()
        authorization = [value for key, value in metadata if key == "authorization"]
        names = context.auth_context().get("x509_common_name", [])
        presented = Presented(
            str(authorization[0]) if len(authorization) == 1 else None,
            names[0].decode("utf-8", "replace") if len(names) == 1 else None,
        )
        return self._gateway.authenticate("grpc", presented)


def grpc_server(gateway: Gateway) -> Any:
    """A grpc.aio server with the front; its port is not bound yet."""
    return grpc.aio.server(
        handlers=[GrpcFront(gateway)],
        options=_options(gateway.settings.limits),
    )


def bind(server: Any, settings: Settings, address: str) -> int:
    """Listen on `address`; returns the port. Raises RuntimeError if it is taken."""
    if settings.tls is None:
        return int(server.add_insecure_port(address))
    return int(server.add_secure_port(address, _server_credentials(settings.tls)))


def _options(limits: Limits) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", limits.max_request_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.max_concurrent_streams", limits.max_connections),
        ("grpc.server_handshake_timeout_ms", round(1000 * limits.read_timeout_s)),
        ("grpc.max_allowed_incoming_connections", CONNECTIONS_PER_CALL * limits.max_connections),
        ("grpc.max_connection_idle_ms", IDLE_CONNECTION_MS),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.so_reuseport", 0),
    ]


def _server_credentials(tls: Tls) -> Any:
    client_ca = None if tls.client_ca is None else tls.client_ca.read_bytes()
    return grpc.ssl_server_credentials(
        [(tls.key.read_bytes(), tls.certificate.read_bytes())],
        root_certificates=client_ca,
        require_client_auth=client_ca is not None,
    )


async def _write_one(context: Any, message: Any, method: Unary, timeout_s: float) -> None:
    """The answer of `method` to the one message of a unary call."""
    if message is grpc.aio.EOF:
        raise Refusal("INVALID_ARGUMENT", "request", "the call brought no message")
    answer = await method(message, context)
    try:
        async with asyncio.timeout(timeout_s):
            await context.write(answer.SerializeToString())
    except TimeoutError:
        raise Refusal("CANCELLED", "too_slow", "the answer was not taken") from None


async def _closed(requests: Any, context: Any) -> None:
    await _abort(
        context,
        Refusal("PERMISSION_DENIED", "permission", "this method is not served by the gateway"),
    )


async def _unknown(requests: Any, context: Any) -> None:
    await _abort(context, Refusal("UNIMPLEMENTED", "request", "there is no such method here"))


async def _abort(context: Any, refusal: Refusal) -> NoReturn:
    trailing: tuple[tuple[str, str], ...] = ()
    if refusal.retry_after_s is not None:
        trailing = ((RETRY_AFTER, str(round(1000 * refusal.retry_after_s))),)
    await context.abort(grpc.StatusCode[refusal.status], str(refusal), trailing)
    raise gateway_failed()  # never reached: abort raises


def _largest_message(request: ClipRequest, base: Base) -> int:
    """Bytes of the largest message of a clip: the whole, or one part if it is sent as decoded."""
    frames, height, width = (
        getattr(request, name) or getattr(base.defaults, name)
        for name in ("num_frames", "height", "width")
    )
    if request.stream_frames and base.latents.frames_per_latent > 1:
        frames = min(frames, base.latents.frames_per_latent)
    return int(3 * frames * height * width + RECORD_BYTES)


def _takes_bytes(context: Any) -> int | None:
    """The largest message that the caller says it takes; None: it does not say."""
    said = [value for key, value in context.invocation_metadata() or () if key == TAKES_BYTES]
    if not said:
        return None
    if len(said) > 1 or not re.fullmatch(r"[1-9][0-9]{0,17}", str(said[0])):
        raise Refusal(
            "INVALID_ARGUMENT", "request", f"the metadata {TAKES_BYTES} must be one whole number"
        )
    return int(said[0])


def _parsed(kind: Any, message: bytes) -> Any:
    try:
        return kind.FromString(message)
    except DecodeError:
        raise Refusal(
            "INVALID_ARGUMENT", "request", "the message is not of the type of this method"
        ) from None
