"""A server in memory, so that code that uses a client can be tested without one.

    server = FakeServer(refuse=[RequestRejected("full", "RESOURCE_EXHAUSTED", retry_after_s=0.01)])
    with Client(transport=server) as client:
        clip = client.generate("a cat", policy="family")
    assert server.requests[-1]["policy"] == "family"

What a client does with it is real: requests are written and answers are read as on the wire.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2

from unsee.client.connection import Call, CallFailed, Silence, asyncio_pause, blocking_pause
from unsee.client.messages import build_response, read_request
from unsee.core.errors import (
    Cancelled,
    DeadlineExceeded,
    RequestRejected,
    ServerError,
    ServerUnreachable,
)
from unsee.core.record import GenerationRecord
from unsee.media.clip import Clip

Inputs = dict[str, Any]
"""What a request asks for; what it leaves to the server is not there."""
Pause = Callable[[float, threading.Event], Awaitable[None]]
"""Waits for seconds, or until the event is set."""


class FakeServer:
    """Answers `Client(transport=…)` and `AsyncClient(transport=…)`.

    Args:
        clips: what it makes: a function of a request's inputs, or clips given out in turn, the last
            of them again and again. None: small moving gradients of the size asked for.
        refuse: errors for the first requests, one each; afterwards come clips.
        num_steps: how many `Progress` events come before a clip; None: as many as asked for, or 3.
        step_s: how long each of them takes.

    `requests` has the inputs of every request, and `cancelled` counts those that were broken off.
    """

    def __init__(
        self,
        clips: Callable[[Inputs], Clip] | Sequence[Clip] | None = None,
        *,
        refuse: Iterable[ServerError] = (),
        num_steps: int | None = None,
        step_s: float = 0.0,
    ) -> None:
        self.requests: list[Inputs] = []
        self.cancelled = 0
        self._clips = clips
        self._refusals = iter(list(refuse))
        self._num_steps = num_steps
        self._step_s = step_s
        self._given = 0
        self._lock = threading.Lock()

    def connect(self) -> FakeConnection:
        """For `Client`."""
        return FakeConnection(self, blocking_pause)

    def connect_async(self) -> FakeConnection:
        """For `AsyncClient`."""
        return FakeConnection(self, asyncio_pause)

    def answer(self, request: Any) -> Iterator[_Answer]:
        """The answers to a ModelInferRequest, each with the seconds that it takes."""
        inputs = read_request(request)
        with self._lock:
            self.requests.append(inputs)
            refusal = next(self._refusals, None)
        if refusal is not None:
            yield _Answer(0.0, failure=_as_failure(refusal))
            return
        clip = self._clip(inputs)
        num_steps = self._num_steps
        if num_steps is None:
            num_steps = inputs.get("num_inference_steps", 3)
        for step in range(1, num_steps + 1):
            event = {"type": "progress", "step": step, "num_inference_steps": num_steps}
            yield _Answer(self._step_s, build_response(event))
        streamed = inputs.get("stream_frames", False)
        if streamed:
            yield from (_Answer(0.0, part) for part in _parts(clip))
        result = {"type": "result", "record": clip.record.model_dump(mode="json")}
        yield _Answer(0.0, build_response(result, None if streamed else clip.frames))

    def broken_off(self) -> None:
        """One more call ended before its clip."""
        with self._lock:
            self.cancelled += 1

    def _clip(self, inputs: Inputs) -> Clip:
        if self._clips is None:
            return gradient_clip(inputs)
        if callable(self._clips):
            return self._clips(inputs)
        with self._lock:
            index = min(self._given, len(self._clips) - 1)
            self._given += 1
        return self._clips[index]


def gradient_clip(inputs: Inputs) -> Clip:
    """A clip of the size asked for, or 8 frames of 64 × 64, whose record repeats the request."""
    num_frames, height, width = (
        int(inputs.get(name, default))
        for name, default in (("num_frames", 8), ("height", 64), ("width", 64))
    )
    ramp = np.linspace(0, 255, width, dtype=np.uint8)
    rows = np.stack([np.roll(ramp, frame) for frame in range(num_frames)])
    frames = np.broadcast_to(rows[:, None, :, None], (num_frames, height, width, 3)).copy()
    record = {
        "policy": "base",
        "revision": 1,
        "base": "fake",
        "base_digest": "sha256:" + "0" * 64,
        "seed": 0,
        "scheduler": "DDIMScheduler",
        "num_inference_steps": 3,
        "guidance_scale": 1.0,
        "num_frames": num_frames,
        "height": height,
        "width": width,
        "fps": 8.0,
        "started_at": "2026-01-01T00:00:00Z",
    }
    asked = {name: value for name, value in inputs.items() if name != "stream_frames"}
    return Clip(frames, GenerationRecord.model_validate(record | asked))


def _parts(clip: Clip) -> Iterator[Any]:
    """Responses of the first frame, and then of four at a time, as a causal decoder gives them."""
    common = {"type": "part", "num_frames": len(clip.frames), "fps": clip.record.fps}
    first_frame = 0
    for frames in np.split(clip.frames, range(1, len(clip.frames), 4)):
        yield build_response(common | {"first_frame": first_frame}, frames)
        first_frame += len(frames)


@dataclass(frozen=True)
class _Answer:
    seconds: float
    response: Any = None
    failure: CallFailed | None = None


class FakeConnection:
    """A `Connection` to a `FakeServer`; `pause` is what tells ordinary code from asyncio."""

    def __init__(self, server: FakeServer, pause: Pause) -> None:
        self._server = server
        self._pause = pause

    async def ask(self, method: str, request: Any, timeout_s: float) -> Any:
        if method != "ServerLive":
            raise CallFailed("UNIMPLEMENTED", f"the fake server has no {method}")
        return service_pb2.ServerLiveResponse(live=True)

    def open(self, request: Any, timeout_s: float) -> Call:
        return _FakeCall(self._server, request, timeout_s, self._pause)

    async def pause(self, seconds: float, cancelled: threading.Event) -> None:
        await self._pause(seconds, cancelled)

    async def close(self) -> None:
        """There is nothing to close."""


class _FakeCall:
    """The answers of one call, until its time is over or it is cancelled."""

    def __init__(self, server: FakeServer, request: Any, timeout_s: float, pause: Pause) -> None:
        self._server = server
        self._answers = server.answer(request)
        self._deadline = time.monotonic() + timeout_s
        self._pause = pause
        self._over = False
        self._cancelled = threading.Event()

    async def next(self, idle_timeout_s: float | None) -> Any:
        seconds, result = self._answer(idle_timeout_s)
        await self._pause(seconds, self._cancelled)
        if self._cancelled.is_set():
            raise CallFailed("CANCELLED")
        if isinstance(result, Exception):
            raise result
        return result

    def cancel(self) -> None:
        if not self._over:
            self._over = True
            self._server.broken_off()
        self._cancelled.set()

    def _answer(self, idle_timeout_s: float | None) -> tuple[float, Any]:
        """How long to wait, and then the message, None at the end, or the exception to raise."""
        answer = next(self._answers, None)
        left_s = max(0.0, self._deadline - time.monotonic())
        seconds = 0.0 if answer is None else answer.seconds
        if idle_timeout_s is not None and seconds > idle_timeout_s < left_s:
            return idle_timeout_s, Silence()
        if seconds > left_s:
            return left_s, CallFailed("DEADLINE_EXCEEDED")
        if answer is None or answer.failure is not None:
            self._over = True
            return seconds, None if answer is None else answer.failure
        return seconds, service_pb2.ModelStreamInferResponse(infer_response=answer.response)


def _as_failure(refusal: ServerError) -> CallFailed:
    match refusal:
        case RequestRejected():
            return CallFailed(refusal.status, str(refusal), retry_after_s=refusal.retry_after_s)
        case ServerUnreachable():
            return CallFailed("UNAVAILABLE", str(refusal), never_sent=True)
        case DeadlineExceeded():
            return CallFailed("DEADLINE_EXCEEDED", str(refusal))
        case Cancelled():
            return CallFailed("CANCELLED", str(refusal))
    return CallFailed("INTERNAL", str(refusal))
