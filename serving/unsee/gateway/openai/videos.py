"""Clips that are asked for now and fetched later: jobs in the memory, each a tenant's own.

A job is an ordinary admitted clip; nothing here decides who may have one or when. What is kept has
bounds in number, bytes and age, and is lost with the process. Knows no transport.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Literal
from weakref import WeakSet

from unsee.gateway.callers.refusal import Refusal, gateway_failed
from unsee.gateway.callers.request import ClipRequest
from unsee.gateway.callers.settings import Tenant
from unsee.gateway.core import Deadline, Gateway
from unsee.media.clip import Clip, Progress
from unsee.media.video_file import encoded

LOGGER = logging.getLogger("unsee.gateway")
SETTLE_S = 1.0
"""How long `create` waits: what is refused at once is its answer and not a failed job."""
NEARLY_DONE = 99
"""Percent; the rest is for the file."""

VideoState = Literal["queued", "in_progress", "completed", "failed"]


@dataclass(frozen=True)
class Wanted:
    """A clip to be made, and how its caller named what it wants.

    Args:
        model: the name that the caller used.
        seconds: of the clip, at the base's frame rate.
        size: (width, height) in pixels.
    """

    request: ClipRequest
    model: str
    seconds: float
    size: tuple[int, int]
    client_id: str = ""


@dataclass(eq=False)
class Video:
    """A job; times are Unix seconds, `progress` is in percent, `content` an MP4 file."""

    tenant: str
    wanted: Wanted
    id: str = field(default_factory=lambda: f"video_{uuid.uuid4().hex}")
    created_at: int = field(default_factory=lambda: int(time.time()))
    state: VideoState = "queued"
    progress: int = 0
    error: Refusal | None = None
    completed_at: int | None = None
    expires_at: int | None = None
    content: bytes = b""
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    expiry: asyncio.TimerHandle | None = None


class Videos:
    """The jobs of one gateway; used from one event loop."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._limits = gateway.settings.limits
        self._kept: dict[str, Video] = {}
        self._held: WeakSet[Video] = WeakSet()  # besides, those forgotten that somebody still takes

    async def create(self, tenant: Tenant, wanted: Wanted, deadline: Deadline) -> Video:
        """A new job, that waits or runs.

        Raises:
            Refusal: too much is kept for this tenant, or the clip was refused at once.
        """
        self._check_room(tenant.name)
        video = Video(tenant.name, wanted)
        self._kept[video.id] = video
        self._held.add(video)
        video.task = asyncio.create_task(self._run(video, tenant, deadline))
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                await video.moved.wait()
        if video.error is not None:
            self._forget(video)
            raise video.error
        return video

    def get(self, tenant: Tenant, video_id: str) -> Video:
        """The job of that id; raises Refusal (NOT_FOUND) if this tenant has none."""
        video = self._kept.get(video_id)
        if video is None or video.tenant != tenant.name:
            raise Refusal("NOT_FOUND", "request", "this caller has no video of that id")
        return video

    def of(self, tenant: Tenant) -> list[Video]:
        """The jobs of a tenant, oldest first."""
        return [video for video in self._kept.values() if video.tenant == tenant.name]

    async def delete(self, tenant: Tenant, video_id: str) -> None:
        """Forget a job; one that is not finished is cancelled, in Triton as well.

        Raises:
            Refusal: NOT_FOUND, as `get`.
        """
        video = self.get(tenant, video_id)
        self._forget(video)
        await _cancelled(video)

    async def close(self) -> None:
        """Cancel what runs and forget everything: nobody could fetch it any more."""
        videos = list(self._kept.values())
        for video in videos:
            self._forget(video)
        await asyncio.gather(*map(_cancelled, videos))

    def _check_room(self, tenant: str) -> None:
        kept = [video for video in self._kept.values() if video.tenant == tenant]
        if len(kept) >= self._limits.max_videos:
            raise self._no_room(kept, f"{len(kept)} videos of this caller are kept")
        num_bytes = self._bytes_of(tenant)
        if num_bytes >= self._limits.max_video_bytes:
            what = f"the videos of this caller that are kept or being taken have {num_bytes} bytes"
            raise self._no_room(kept, what)

    def _bytes_of(self, tenant: str) -> int:
        return sum(len(video.content) for video in self._held if video.tenant == tenant)

    def _no_room(self, kept: list[Video], what: str) -> Refusal:
        ends = [video.expires_at for video in kept if video.expires_at is not None]
        wait_s = max(1.0, min(ends) - time.time()) if ends else None
        return Refusal(
            "RESOURCE_EXHAUSTED",
            "tenant_full",
            f"{what}, which is as much as may be; delete one",
            retry_after_s=wait_s,
        )

    async def _run(self, video: Video, tenant: Tenant, deadline: Deadline) -> None:
        try:
            clip = await self._clip(video, tenant, deadline)
            content = await asyncio.to_thread(encoded, clip.frames, clip.record, ".mp4")
            self._keep(video, content)
        except Refusal as refusal:
            # without what it passed through, whose frames would be held as long as the video is
            video.state, video.error = "failed", refusal.with_traceback(None)
            refusal.__cause__ = refusal.__context__ = None
        except Exception:
            LOGGER.exception("the video %s could not be made", video.id)
            video.state, video.error = "failed", gateway_failed()
        finally:
            self._end(video)

    async def _clip(self, video: Video, tenant: Tenant, deadline: Deadline) -> Clip:
        wanted = video.wanted

        def read() -> tuple[ClipRequest, str]:
            return wanted.request, wanted.client_id

        clip = None
        async with aclosing(self._gateway.clip("http", tenant, read, deadline)) as answers:
            async for answer in answers:  # to the end: leaving early counts as cancelled
                event = answer.event
                if isinstance(event, Clip):
                    clip = event
                elif isinstance(event, Progress):
                    video.state = "in_progress"
                    percent = 100 * event.step // max(event.num_inference_steps, 1)
                    video.progress = min(percent, NEARLY_DONE)
                    video.moved.set()
        if clip is None:
            raise gateway_failed()
        return clip

    def _keep(self, video: Video, content: bytes) -> None:
        others = self._bytes_of(video.tenant)
        if others + len(content) > self._limits.max_video_bytes:
            raise Refusal(
                "RESOURCE_EXHAUSTED",
                "tenant_full",
                f"this video has {len(content)} bytes and {others} are kept of this caller, which "
                f"may be {self._limits.max_video_bytes} together; delete some and ask again",
            )
        video.content, video.state, video.progress = content, "completed", 100

    def _end(self, video: Video) -> None:
        video.moved.set()
        if video.id not in self._kept:
            return
        now, age_s = time.time(), self._limits.video_max_age_s
        video.completed_at = int(now) if video.state == "completed" else None
        video.expires_at = int(now + age_s)
        loop = asyncio.get_running_loop()
        video.expiry = loop.call_later(age_s, self._forget, video)

    def _forget(self, video: Video) -> None:
        self._kept.pop(video.id, None)
        if video.expiry is not None:
            video.expiry.cancel()


async def _cancelled(video: Video) -> None:
    """Ends the task of a job, if it has not ended, and waits until Triton knows."""
    if video.task is not None:
        video.task.cancel()
        await asyncio.gather(video.task, return_exceptions=True)
