"""What all HTTP routes have in common: who calls, the body, and how a refusal is said.

Knows no route.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from unsee.gateway.callers.credentials import Presented
from unsee.gateway.callers.refusal import Refusal, quoted
from unsee.gateway.callers.settings import Limits, Tenant
from unsee.gateway.core import Gateway
from unsee.gateway.fronts.open_calls import gateway_is_full

CONNECTION = "unsee.connection"
"""Where a request's connection is found in the ASGI scope; a `connection.GuardedConnection`."""
FRAME_SCRIPT = ("GET", "/page/report_frame.js")
NO_ORIGIN = ("null",)
"""What the page's own frame for reports sends with the request for its script: it has no origin."""
LIVE_PATH = "/livez"
"""Answered even when every connection is taken."""
PIECE_BYTES = 64 * 1024
CODES = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}

Endpoint = Callable[[Request], Awaitable[Response]]
Describe = Callable[[Refusal], dict[str, Any]]
"""What the JSON of an answer says of a refusal."""


def presented(request: Request) -> Presented:
    """What the caller showed; two `authorization` headers count as none."""
    authorization = request.headers.getlist("authorization")
    return Presented(
        authorization[0] if len(authorization) == 1 else None,
        request.scope[CONNECTION].certificate_name,
    )


def caller(gateway: Gateway, request: Request) -> Tenant:
    """The tenant whose request this is.

    Raises:
        Refusal: it is not known, or has too many requests open.
    """
    tenant = gateway.authenticate("http", presented(request))
    request.scope[CONNECTION].serve(tenant)
    return tenant


def operator(gateway: Gateway, request: Request) -> Tenant:
    """The operator whose request this is; raises Refusal for anybody else."""
    tenant = gateway.operator("http", presented(request))
    request.scope[CONNECTION].serve(tenant)
    return tenant


async def read_body(request: Request, limits: Limits) -> bytes:
    """The whole body; raises Refusal unless it is small enough and comes in time."""
    body = bytearray()
    try:
        async with asyncio.timeout(limits.read_timeout_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limits.max_request_bytes:
                    raise _too_large(limits.max_request_bytes)
    except TimeoutError:
        raise Refusal(
            "DEADLINE_EXCEEDED", "too_slow", "the request did not arrive in time"
        ) from None
    return bytes(body)


def error_json(refusal: Refusal) -> dict[str, Any]:
    """What a caller reads of a refusal."""
    return {"status": refusal.status, "message": str(refusal)}


def refusal_response(refusal: Refusal, describe: Describe = error_json) -> Response:
    """The refusal as JSON with its HTTP status; when asking again helps, in `Retry-After`."""
    headers = {}
    if refusal.retry_after_s is not None:
        headers["retry-after"] = str(math.ceil(refusal.retry_after_s))
    if refusal.status == "UNAUTHENTICATED":
        headers["www-authenticate"] = "Bearer"
    if refusal.reason in ("too_large", "too_slow"):
        headers["connection"] = "close"
    code = 413 if refusal.reason == "too_large" else CODES[refusal.status]
    return JSONResponse({"error": describe(refusal)}, code, headers)


def in_pieces(
    content: Callable[[], bytes], media_type: str, headers: Mapping[str, str]
) -> Response:
    """An answer whose content is handed over as the caller takes it.

    Handed over whole, what a slow caller has not taken would be copied for each of its connections.

    Args:
        content: gives what is sent; it is held until the caller has taken all, or has gone.
    """
    length = len(content())

    async def pieces() -> AsyncGenerator[bytes, None]:
        for start in range(0, length, PIECE_BYTES):
            yield content()[start : start + PIECE_BYTES]

    given = {**headers, "content-length": str(length)}
    return StreamingResponse(pieces(), headers=given, media_type=media_type)


def guarded(endpoint: Endpoint, describe: Describe = error_json) -> Endpoint:
    """`endpoint`, whose refusals become answers."""

    async def call(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Refusal as refusal:
            return refusal_response(refusal, describe)

    return call


def only_for_own_hosts(app: ASGIApp, hosts: frozenset[str] | None) -> ASGIApp:
    """`app`, closed to pages of other sites and to requests whose length can be read in two ways.

    A page that a person has open on this machine can send requests here. Its Origin is not ours,
    and if it has pointed a name of its own at this address, its Host is not ours either.

    Args:
        hosts: the names, without ports, that a request may be for; None: any.
    """

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        refusal = None
        if scope["type"] == "http":
            own = NO_ORIGIN if (scope["method"], scope["path"]) == FRAME_SCRIPT else ()
            refusal = _stranger(Headers(scope=scope), hosts, own)
        if refusal is None:
            await app(scope, receive, send)
            return
        response = refusal_response(refusal)
        response.headers["connection"] = "close"
        await response(scope, receive, send)

    return guard


def _stranger(
    headers: Headers, hosts: frozenset[str] | None, allowed_origins: Sequence[str] = ()
) -> Refusal | None:
    if "content-length" in headers and "transfer-encoding" in headers:
        return Refusal(
            "INVALID_ARGUMENT",
            "request",
            "a request has a content-length or is sent in chunks, never both",
        )
    named = headers.getlist("host")
    if len(named) != 1:
        return Refusal("INVALID_ARGUMENT", "request", "a request needs one Host header")
    host = named[0].strip().lower()
    if hosts is not None and _without_port(host) not in hosts:
        return Refusal(
            "PERMISSION_DENIED",
            "permission",
            f"the host {quoted(host)} is not served here; if it is meant to be, the operator adds "
            "it to hosts in gateway.yaml",
        )
    origins = [origin for origin in headers.getlist("origin") if origin not in allowed_origins]
    if any(origin.strip().lower().partition("://")[2] != host for origin in origins):
        return Refusal(
            "PERMISSION_DENIED", "permission", "a page of another site may not call this service"
        )
    return None


def _without_port(host: str) -> str:
    name = host.rpartition(":")[0] if re.search(r":\d*$", host) and host[-1:] != "]" else host
    return name.strip("[]")


async def refuse_when_full(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer that every connection of the gateway is taken."""
    response = refusal_response(gateway_is_full())
    response.headers["connection"] = "close"
    await response(scope, receive, send)


def _too_large(max_bytes: int) -> Refusal:
    return Refusal("INVALID_ARGUMENT", "too_large", f"a request has at most {max_bytes} bytes")
