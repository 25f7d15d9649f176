"""What all HTTP routes have in common: who calls, the body, and how a refusal is said.

Knows no route.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from unsee.gateway.callers.credentials import Presented
from unsee.gateway.callers.refusal import Refusal
from unsee.gateway.callers.settings import Limits

CERTIFICATE_NAME = "unsee.certificate_name"
"""Where the connection puts the common name of its client certificate, in the ASGI scope."""
BREAK_OFF = "unsee.break_off"
"""Where the connection puts the function that ends it, whatever is still to be sent."""
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
        request.scope.get(CERTIFICATE_NAME),
    )


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


def guarded(endpoint: Endpoint, describe: Describe = error_json) -> Endpoint:
    """`endpoint`, whose refusals become answers."""

    async def call(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Refusal as refusal:
            return refusal_response(refusal, describe)

    return call


def _too_large(max_bytes: int) -> Refusal:
    return Refusal("INVALID_ARGUMENT", "too_large", f"a request has at most {max_bytes} bytes")
