"""`/v1/videos`: the jobs of `videos` in the form of OpenAI's Videos API.

Clients of that API work unchanged: a form or JSON in, `video` objects out, errors in its shape.
Translates only; who may ask for what, and when, is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from unsee.gateway.callers.refusal import Refusal, invalid
from unsee.gateway.core import Gateway
from unsee.gateway.fronts.http_exchange import (
    Endpoint,
    caller,
    guarded,
    in_pieces,
    read_body,
)
from unsee.gateway.openai.video_request import (
    ListQuery,
    VideoRequest,
    read_form,
    read_json,
    read_query,
)
from unsee.gateway.openai.videos import Video, Videos
from unsee.repository.base import Base

PATH = "/v1/videos"
POLL_AFTER_MS = 500
TYPES = {
    "UNAUTHENTICATED": ("authentication_error", "invalid_api_key"),
    "PERMISSION_DENIED": ("permission_error", "permission_denied"),
    "NOT_FOUND": ("invalid_request_error", "not_found"),
    "INVALID_ARGUMENT": ("invalid_request_error", "invalid_value"),
    "RESOURCE_EXHAUSTED": ("rate_limit_error", "rate_limit_exceeded"),
    "DEADLINE_EXCEEDED": ("invalid_request_error", "deadline_exceeded"),
}
"""Of a status: OpenAI's `type` and `code`; of any other, those of a fault of the server."""
SERVER_FAULT = ("server_error", "server_error")


class VideosFront:
    """The routes of `/v1/videos`, over one core and its jobs."""

    def __init__(self, gateway: Gateway, videos: Videos) -> None:
        self._gateway = gateway
        self._videos = videos

    def routes(self) -> list[Route]:
        """Everything that is served; edits, remixes, extensions and characters are not."""
        one = f"{PATH}/{{video_id}}"
        return [
            Route(PATH, _guarded(self._create), methods=["POST"]),
            Route(PATH, _guarded(self._list), methods=["GET"]),
            Route(one, _guarded(self._get), methods=["GET"]),
            Route(one, _guarded(self._delete), methods=["DELETE"]),
            Route(f"{one}/content", _guarded(self._content), methods=["GET"]),
        ]

    async def _create(self, request: Request) -> Response:
        tenant = caller(self._gateway, request)
        asked = await self._asked(request)
        wanted = asked.wanted(self._base())
        deadline = self._gateway.deadline(asked.timeout_s)
        return _described(await self._videos.create(tenant, wanted, deadline))

    async def _asked(self, request: Request) -> VideoRequest:
        content_type = request.headers.get("content-type", "")
        kind = content_type.partition(";")[0].strip().lower()
        if kind == "application/json":
            return read_json(await read_body(request, self._gateway.settings.limits))
        if kind != "multipart/form-data":
            raise invalid("send the request as multipart/form-data or application/json")
        if "authorization" not in request.headers:
            # Browsers send forms for any site, with the visitor's certificate; never this header.
            raise invalid("a form needs a token; with a certificate alone, send application/json")
        body = await read_body(request, self._gateway.settings.limits)
        return await read_form(content_type, body)

    async def _list(self, request: Request) -> Response:
        tenant = caller(self._gateway, request)
        query = read_query(request.query_params.multi_items())
        videos = self._videos.of(tenant)
        page, more = _page(videos if query.order == "asc" else videos[::-1], query)
        return JSONResponse(
            {
                "object": "list",
                "data": [_as_openai(video) for video in page],
                "first_id": page[0].id if page else None,
                "last_id": page[-1].id if page else None,
                "has_more": more,
            }
        )

    async def _get(self, request: Request) -> Response:
        return _described(self._video(request))

    async def _delete(self, request: Request) -> Response:
        video_id = request.path_params["video_id"]
        await self._videos.delete(caller(self._gateway, request), video_id)
        return JSONResponse({"id": video_id, "object": "video.deleted", "deleted": True})

    async def _content(self, request: Request) -> Response:
        video = self._video(request)
        variant = request.query_params.get("variant", "video")
        if variant != "video":
            raise invalid("there is no other variant than video, an MP4 file")
        if video.error is not None:
            raise invalid(f"this video failed: {video.error}")
        if video.state != "completed":
            raise invalid(f"this video is not ready: {video.state}, {video.progress} %")
        headers = {
            "content-disposition": f'attachment; filename="{video.id}.mp4"',
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
        }
        return in_pieces(lambda: video.content, "video/mp4", headers)

    def _video(self, request: Request) -> Video:
        tenant = caller(self._gateway, request)
        return self._videos.get(tenant, request.path_params["video_id"])

    def _base(self) -> Base:
        base = self._gateway.repository.base()
        if base is None:
            raise Refusal(
                "UNAVAILABLE",
                "model_server",
                "the frame rate of the base is not known; the gateway's repository lacks base.json",
            )
        return base


def _page(videos: Sequence[Video], query: ListQuery) -> tuple[Sequence[Video], bool]:
    """Those of `videos` that the query asks for, and whether there are more."""
    start = 0
    if query.after is not None:
        ids = [video.id for video in videos]
        if query.after not in ids:
            raise invalid("after names no video of this caller")
        start = ids.index(query.after) + 1
    end = start + query.limit
    return videos[start:end], end < len(videos)


def _described(video: Video) -> Response:
    return JSONResponse(_as_openai(video), headers={"openai-poll-after-ms": str(POLL_AFTER_MS)})


def _as_openai(video: Video) -> dict[str, Any]:
    wanted = video.wanted
    width, height = wanted.size
    return {
        "id": video.id,
        "object": "video",
        "model": wanted.model,
        "status": video.state,
        "progress": video.progress,
        "created_at": video.created_at,
        "completed_at": video.completed_at,
        "expires_at": video.expires_at,
        "prompt": wanted.request.prompt,
        "seconds": f"{wanted.seconds:g}",
        "size": f"{width}x{height}",
        "remixed_from_video_id": None,
        "error": None if video.error is None else _error(video.error),
    }


def _error(refusal: Refusal) -> dict[str, Any]:
    kind, code = TYPES.get(refusal.status, SERVER_FAULT)
    return {"message": str(refusal), "type": kind, "param": None, "code": code}


def _guarded(endpoint: Endpoint) -> Endpoint:
    return guarded(endpoint, _error)
