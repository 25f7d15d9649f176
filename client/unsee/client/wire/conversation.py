"""How one clip is asked for: what to send, how to read, when to stop, retry or give up.

Does no input or output: `Conversation.steps` is a generator, and whoever drives it (`client` and
`async_client`) performs each step, sends back its result or throws the `CallFailed` or `Silence`
that it ended with, and hands the events on to the caller. So both clients behave alike.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from tritonclient.grpc import service_pb2

from unsee.client.wire import failures
from unsee.client.wire.messages import build_request, frames_size, place_frames, read_response
from unsee.client.wire.options import Patience
from unsee.client.wire.shared_memory import Region, SharedMemory
from unsee.client.wire.steps import Ask, Next, Open, Sleep, Steps, Work
from unsee.client.wire.transport import CallFailed, Silence
from unsee.core.errors import RequestRejected, ServerError, ServerUnreachable
from unsee.media.clip import Clip

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 5.0
UNREACHED = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
"""How a health check ends when nobody answers."""


@dataclass
class Peer:
    """What a client remembers of its server from clip to clip.

    Args:
        reached: something came from there, and nothing has failed since.
        clock: seconds, monotonic.
        jitter: draws from [0, 1), so that clients refused together do not come back together.
    """

    url: str
    shared_memory: SharedMemory
    reached: bool = False
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    jitter: Callable[[], float] = field(default=random.random, repr=False)


class Conversation:
    """One clip.

    Args:
        values: the model's inputs by name; None: left out.

    Raises:
        InputError: a value does not fit its datatype.
    """

    def __init__(self, values: dict[str, Any], patience: Patience, peer: Peer) -> None:
        build_request(values)  # what cannot be sent is said before anything is tried
        self._values = values
        self._patience = patience
        self._peer = peer
        self._begun = False
        self._deadline = 0.0

    def steps(self) -> Steps:
        """The steps, the events among them, the `Clip` last.

        A refusal is retried only while the server cannot have begun: no event has come, and either
        it said "later" or the request never left.

        Raises:
            ServerError: see `Client.stream`.
        """
        self._deadline = self._peer.clock() + self._patience.timeout_s
        for retries_left in range(self._patience.retries, -1, -1):
            try:
                yield from self._attempt()
                return
            except ServerError as refusal:
                refusal.retryable = refusal.retryable and not self._begun
                pause_s = self._pause_s(refusal, self._patience.retries - retries_left)
                if not refusal.retryable or not retries_left or pause_s >= self._left_s():
                    raise
            yield Sleep(pause_s)

    def _attempt(self) -> Steps:
        if not self._peer.reached:
            yield from self._reach(min(self._patience.connect_timeout_s, self._left_s()))
        request = build_request(self._values)
        region = yield from self._peer.shared_memory.lend(frames_size(self._values))
        if region is not None:
            place_frames(request, region.name, region.num_bytes)
        try:
            yield from self._stream(request, region)
        finally:
            self._peer.shared_memory.abandon(region)  # unless it was taken back in time

    def _stream(self, request: Any, region: Region | None) -> Steps:
        peer, patience = self._peer, self._patience
        if self._left_s() <= 0:
            raise failures.deadline_exceeded(peer.url, patience.timeout_s)
        try:
            yield Open(request, self._left_s())
            while (answer := (yield Next(patience.idle_timeout_s))) is not None:
                if answer.error_message:
                    yield from self._read_to_the_end()
                    raise failures.rejected(answer.error_message)
                event = read_response(answer.infer_response, region and region.memory)
                if isinstance(event, Clip):
                    yield from self._read_to_the_end()
                    yield from peer.shared_memory.take_back(region)
                if event is not None:
                    self._begun = True
                    yield event
                if isinstance(event, Clip):
                    return
        except CallFailed as failure:
            raise (yield from self._explained(failure)) from failure
        except Silence as silence:
            if (yield from self._still_there()):
                raise failures.gave_no_sign(peer.url, patience.idle_timeout_s) from silence
            raise failures.stopped_answering(peer.url) from silence
        raise failures.no_clip(peer.url)

    def _explained(self, failure: CallFailed) -> Generator[Work, Any, ServerError]:
        url = self._peer.url
        if failure.never_sent:
            self._peer.reached = False
            return failures.unreachable(url, refused=True)
        unsaid = failure.status == "UNAVAILABLE" and failure.retry_after_s is None
        if unsaid and not (yield from self._still_there()):  # a busy server may say the same
            return failures.stopped_answering(url)
        return failures.translated(failure, url, self._patience.timeout_s)

    def _reach(self, timeout_s: float) -> Generator[Work, Any, None]:
        """A refusal comes back at once and silence after `timeout_s`, unlike in a long request."""
        try:
            yield Ask("ServerLive", service_pb2.ServerLiveRequest(), max(0.0, timeout_s))
        except CallFailed as failure:
            if failure.status in UNREACHED:
                refused = failure.status == "UNAVAILABLE"
                raise failures.unreachable(self._peer.url, refused=refused) from failure
        self._peer.reached = True

    def _still_there(self) -> Generator[Work, Any, bool]:
        self._peer.reached = False
        try:
            yield from self._reach(self._patience.connect_timeout_s)
        except ServerUnreachable:
            return False
        return True

    def _read_to_the_end(self) -> Generator[Work, Any, None]:
        """Lets a stream that has given its last answer end by itself.

        Cancelled then, it stays in Triton for good, and its model can never be unloaded.
        """
        try:
            while (yield Next(self._patience.idle_timeout_s)) is not None:
                pass
        except (CallFailed, Silence):
            return

    def _left_s(self) -> float:
        return self._deadline - self._peer.clock()

    def _pause_s(self, refusal: ServerError, attempt: int) -> float:
        """The server's own hint and a little more; else doubling, from half of it to the whole."""
        hint_s = refusal.retry_after_s if isinstance(refusal, RequestRejected) else None
        if hint_s is not None:
            return hint_s * (1 + 0.1 * self._peer.jitter())
        longest_s: float = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**attempt)
        return longest_s * (0.5 + 0.5 * self._peer.jitter())
