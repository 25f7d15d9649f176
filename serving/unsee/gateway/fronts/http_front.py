"""The gateway over HTTP: clips as server-sent events, and what operators ask.

Nothing is passed through by path: what is no route here does not exist. Knows how HTTP says things,
not what is allowed.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from unsee.client.messages import MODEL
from unsee.core.errors import InputError
from unsee.gateway.callers.refusal import Refusal, invalid
from unsee.gateway.callers.request import StreamRequest, read_json
from unsee.gateway.callers.settings import Tenant
from unsee.gateway.core import Gateway
from unsee.gateway.fronts.http_exchange import (
    CONNECTION,
    LIVE_PATH,
    caller,
    error_json,
    guarded,
    in_pieces,
    only_for_own_hosts,
    operator,
    read_body,
    refusal_response,
)
from unsee.media.clip import Clip, Part, Progress
from unsee.media.frames import Frames
from unsee.media.video_file import encoded

LOGGER = logging.getLogger("unsee.gateway")
STATUS_OF_CODE = {404: "NOT_FOUND", 405: "UNIMPLEMENTED"}
BASE64_BYTES = 3 * 2**18
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
REPORT_HEADERS = {
    "content-security-policy": (
        "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
"""A report is shown as a page of nobody: it runs nothing, fetches nothing and sends nothing."""


class HttpFront:
    """The routes, over one core."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._limits = gateway.settings.limits

    def app(self, more_routes: Sequence[BaseRoute] = ()) -> ASGIApp:
        """The ASGI application: its own routes and those that the settings ask for besides."""
        routes = [
            Route(LIVE_PATH, guarded(self._live)),
            Route("/readyz", guarded(self._ready)),
            Route("/metrics", guarded(self._metrics)),
            Route("/v2/policies", guarded(self._policies)),
            Route("/v2/policies/{policy}/report", guarded(self._report)),
            Route("/v2/status", guarded(self._status)),
            Route(f"/v2/models/{MODEL}/generate_stream", guarded(self._generate), methods=["POST"]),
        ]
        app = Starlette(
            routes=[*routes, *more_routes], exception_handlers={HTTPException: _no_such_route}
        )
        app.router.redirect_slashes = False
        return only_for_own_hosts(app, self._gateway.settings.accepted_hosts)

    async def _live(self, request: Request) -> Response:
        return JSONResponse({"live": True})

    async def _ready(self, request: Request) -> Response:
        if self._gateway.draining:
            return JSONResponse({"ready": False, "reason": "the gateway is going down"}, 503)
        health = await self._gateway.readiness.health()
        answer = {"ready": health.ready, "reason": health.sentence}
        return JSONResponse(answer, 200 if health.ready else 503)

    async def _metrics(self, request: Request) -> Response:
        operator(self._gateway, request)
        return Response(self._gateway.metrics.text(), media_type=METRICS_TYPE)

    async def _status(self, request: Request) -> Response:
        operator(self._gateway, request)
        health = await self._gateway.readiness.health()
        ready = health.ready and not self._gateway.draining
        answer = {"ready": ready, "models": health.models}
        return JSONResponse(answer | self._gateway.status())

    async def _policies(self, request: Request) -> Response:
        tenant = caller(self._gateway, request)
        policies = [
            self._gateway.repository.describe(policy, with_eligible=tenant.may_pin_revision)
            for policy in tenant.policies
        ]
        answer: dict[str, Any] = {
            "default_policy": tenant.policy_by_default,
            "policies": policies,
        }
        base = self._gateway.repository.base()
        if base is not None:
            answer["base"] = {
                "name": base.name,
                "defaults": asdict(base.defaults),
                "limits": asdict(base.limits),
                "latents": asdict(base.latents),
            }
        return JSONResponse(answer)

    async def _report(self, request: Request) -> Response:
        """The report of the active revision; the path names a policy, never a file."""
        tenant = caller(self._gateway, request)
        policy = self._gateway.policy("http", tenant, request.path_params["policy"])
        page = await asyncio.to_thread(self._gateway.repository.report_page, policy)
        if page is None:
            raise Refusal(
                "NOT_FOUND",
                "request",
                f'the active revision of the policy "{policy}" has no report page here',
            )
        return in_pieces(lambda: page.content, "text/html; charset=utf-8", REPORT_HEADERS)

    async def _generate(self, request: Request) -> Response:
        tenant = caller(self._gateway, request)
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise invalid("send the request as content-type: application/json")
        body = await read_body(request, self._limits)
        return ClipStream(self._events(tenant, body), self._limits.read_timeout_s)

    async def _events(self, tenant: Tenant, body: bytes) -> AsyncGenerator[bytes, None]:
        asked = self._gateway.accounted("http", tenant.name, lambda: read_json(body))

        def read() -> tuple[Any, str]:
            return asked.clip, asked.id

        deadline = self._gateway.deadline(asked.timeout_s)
        async with aclosing(self._gateway.clip("http", tenant, read, deadline)) as answers:
            async for answer in answers:
                yield await _sse(answer.event, asked)


class ClipStream(Response):
    """Events of one clip as server-sent events; a refusal before the first one is a status.

    The caller's going away closes the events at once; one that does not read is cut off.
    """

    def __init__(self, events: AsyncGenerator[bytes, None], write_timeout_s: float) -> None:
        super().__init__()
        self._events = events
        self._write_timeout_s = write_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events, or as many as the caller stays for."""
        sending = asyncio.ensure_future(self._send(scope, receive, send))
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        except TimeoutError:  # closing would wait until the caller has read the rest
            scope[CONNECTION].abort()
        finally:
            sending.cancel()
            gone.cancel()
            await asyncio.gather(sending, gone, return_exceptions=True)

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        async with aclosing(self._events) as events:
            try:
                async for event in events:
                    if not started:
                        await self._write(send, _START)
                        started = True
                    await self._write(send, _body(event, more=True))
            except Refusal as refusal:
                if not started:
                    await refusal_response(refusal)(scope, receive, send)
                    return
                await self._write(send, _body(_event("error", error_json(refusal)), more=True))
        await self._write(send, _body(b"", more=False))

    async def _write(self, send: Send, message: dict[str, Any]) -> None:
        async with asyncio.timeout(self._write_timeout_s):
            await send(message)


async def _no_such_route(request: Request, error: Exception) -> Response:
    code = error.status_code if isinstance(error, HTTPException) else 500
    status = STATUS_OF_CODE.get(code, "INVALID_ARGUMENT")
    sentence = "this method is not served here" if code == 405 else "there is nothing here"
    return JSONResponse({"error": {"status": status, "message": sentence}}, code)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _sse(event: Progress | Part | Clip, asked: StreamRequest) -> bytes:
    named: dict[str, Any] = {"id": asked.id} if asked.id else {}
    if isinstance(event, Progress):
        steps = {"step": event.step, "num_inference_steps": event.num_inference_steps}
        return _event("progress", named | steps)
    return await asyncio.to_thread(_with_frames, event, asked, named)


def _with_frames(event: Part | Clip, asked: StreamRequest, named: dict[str, Any]) -> bytes:
    if isinstance(event, Part):
        place = {"first_frame": event.first_frame, "num_frames": event.num_frames}
        frames = _file("npy", _npy(event.frames))
        return _event("part", named | place | {"fps": event.fps}, frames=frames)
    more: dict[str, bytes] = {}
    if not asked.stream_frames:
        more["clip"] = _file("npy", _npy(event.frames))
    if asked.files:
        more["files"] = b"[%s]" % b", ".join(_files(event, asked.files))
    return _event("result", named | {"record": event.record.model_dump(mode="json")}, **more)


def _files(clip: Clip, formats: Sequence[str]) -> Iterator[bytes]:
    """The clip in each of `formats`; one that could not be written is left out, and logged."""
    for name in dict.fromkeys(formats):
        try:
            yield _file(name, encoded(clip.frames, clip.record, f".{name}"))
        except InputError as error:
            LOGGER.error("a clip could not be written as %s: %s", name, error)


def _file(name: str, content: bytes) -> bytes:
    """A file as JSON, encoded in pieces: one call for a whole clip would hold up all threads."""
    starts = range(0, len(content), BASE64_BYTES)
    text = b"".join(base64.b64encode(content[at : at + BASE64_BYTES]) for at in starts)
    return b'{"format": "%s", "base64": "%s"}' % (name.encode(), text)


def _npy(frames: Frames) -> bytes:
    content = io.BytesIO()
    np.save(content, frames, allow_pickle=False)
    return content.getvalue()


def _event(name: str, content: dict[str, Any], **more: bytes) -> bytes:
    """An event of `content` and of `more`, whose values are JSON already."""
    members = [json.dumps(content).encode()[1:-1]]
    members += [b'"%s": %s' % (key.encode(), value) for key, value in more.items()]
    return b"event: %s\ndata: {%s}\n\n" % (name.encode(), b", ".join(members))


_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"text/event-stream"),
        (b"cache-control", b"no-store"),
        (b"x-accel-buffering", b"no"),
    ],
}


def _body(content: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, "more_body": more}
