"""A server in memory, so that code that uses a client can be tested without one.

    server = FakeServer(refuse=[RequestRejected("full", "RESOURCE_EXHAUSTED", retry_after_s=0.01)])
    with Client(transport=server) as client:
        clip = client.generate("a cat", policy="family")
    assert server.requests[-1]["policy"] == "family"

What a client does with it is real: requests are written and answers are read as on the wire. Knows
no network and no test framework.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2

from unsee.client.wire.messages import build_response, read_request
from unsee.client.wire.transport import CallFailed, Silence
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

    def connect(self) -> FakeTransport:
        """For `Client`."""
        return FakeTransport(self)

    def connect_async(self) -> AsyncFakeTransport:
        """For `AsyncClient`."""
        return AsyncFakeTransport(self)

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
        result = {"type": "result", "record": clip.record.model_dump(mode="json")}
        yield _Answer(0.0, build_response(result, clip.frames))

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
    return Clip(frames, GenerationRecord.model_validate(record | inputs))


@dataclass(frozen=True)
class _Answer:
    seconds: float
    response: Any = None
    failure: CallFailed | None = None


class FakeTransport:
    """See `Transport`."""

    def __init__(self, server: FakeServer) -> None:
        self._server = server

    def ask(self, method: str, request: Any, timeout_s: float) -> Any:
        return _asked(method)

    def open(self, request: Any, timeout_s: float) -> FakeCall:
        return FakeCall(_Script(self._server, request, timeout_s))

    def close(self) -> None:
        """There is nothing to close."""


class AsyncFakeTransport:
    """See `AsyncTransport`."""

    def __init__(self, server: FakeServer) -> None:
        self._server = server

    async def ask(self, method: str, request: Any, timeout_s: float) -> Any:
        return _asked(method)

    def open(self, request: Any, timeout_s: float) -> AsyncFakeCall:
        return AsyncFakeCall(_Script(self._server, request, timeout_s))

    async def close(self) -> None:
        """There is nothing to close."""


class _Script:
    """The answers of one call, and when its time is over."""

    def __init__(self, server: FakeServer, request: Any, timeout_s: float) -> None:
        self._server = server
        self._answers = server.answer(request)
        self._deadline = time.monotonic() + timeout_s
        self._over = False

    def next(self, idle_timeout_s: float | None) -> tuple[float, Any]:
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

    def end(self) -> None:
        """The client is done with it, in time or before."""
        if not self._over:
            self._over = True
            self._server.broken_off()


class FakeCall:
    """See `Call`."""

    def __init__(self, script: _Script) -> None:
        self._script = script
        self._cancelled = threading.Event()

    def next(self, idle_timeout_s: float | None) -> Any:
        seconds, result = self._script.next(idle_timeout_s)
        if self._cancelled.wait(seconds):
            raise CallFailed("CANCELLED")
        return _raised_or(result)

    def cancel(self) -> None:
        self._script.end()
        self._cancelled.set()


class AsyncFakeCall:
    """See `AsyncCall`."""

    def __init__(self, script: _Script) -> None:
        self._script = script

    async def next(self, idle_timeout_s: float | None) -> Any:
        seconds, result = self._script.next(idle_timeout_s)
        await asyncio.sleep(seconds)
        return _raised_or(result)

    def cancel(self) -> None:
        self._script.end()


def _raised_or(result: Any) -> Any:
    if isinstance(result, Exception):
        raise result
    return result


def _asked(method: str) -> Any:
    if method != "ServerLive":
        raise CallFailed("UNIMPLEMENTED", f"the fake server has no {method}")
    return service_pb2.ServerLiveResponse(live=True)


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
