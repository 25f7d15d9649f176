"""One clip: what to send, how to read the answers, when to retry and when to give up.

Both clients await the same `Conversation`; only their connections differ.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tritonclient.grpc import service_pb2

from unsee.client.connection import Call, CallFailed, Connection, Silence
from unsee.client.messages import STOPPING, build_request, draining, read_error, read_response
from unsee.client.options import CallLimits
from unsee.core.errors import (
    Cancelled,
    DeadlineExceeded,
    RequestRejected,
    ServerError,
    ServerUnreachable,
)
from unsee.media.clip import Clip, Part, Progress

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 5.0
UNREACHED = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
"""How a health check ends when nobody answers."""
OWN_DEADLINE = "deadline exceeded"
"""What gRPC says, among other words, when the caller's own deadline has ended a call."""
LATER = ("RESOURCE_EXHAUSTED", "UNAVAILABLE")
"""How a server refuses that may take the request later."""

Event = Progress | Part | Clip
"""What a caller gets to see of a clip's making."""


@dataclass
class Peer:
    """What a client remembers of its server from clip to clip.

    Args:
        url: how messages name it.
        reached: something came from there, and nothing has failed since.
        clock: seconds, monotonic.
        jitter: draws from [0, 1), so that clients refused together do not come back together.
    """

    url: str
    reached: bool = False
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    jitter: Callable[[], float] = field(default=random.random, repr=False)


class Conversation:
    """The request for one clip and the answers to it.

    Args:
        values: the model's inputs by name; None: left out.

    Raises:
        InputError: a value does not fit its datatype.
    """

    def __init__(
        self, connection: Connection, peer: Peer, values: dict[str, Any], limits: CallLimits
    ) -> None:
        self._connection = connection
        self._peer = peer
        self._request = build_request(values)
        self._limits = limits
        self._deadline = 0.0
        self._call: Call | None = None
        self._parts: list[Part] = []
        self._begun = False
        self._finished = False
        self._cancelled = threading.Event()

    async def next(self) -> Event | None:
        """The next event, the `Clip` last, and then None.

        Raises:
            ServerError: see `Client.stream`; the conversation has ended and wants `cancel`.
        """
        if self._finished:
            return None
        if not self._begun:
            return await self._first()
        try:
            return await self._read()
        except ServerError as error:
            error.retryable = False  # the server has begun
            raise

    def cancel(self) -> None:
        """End what is in flight; may be called from another thread, and more than once."""
        self._cancelled.set()
        if self._call is not None:
            self._call.cancel()

    async def _first(self) -> Event:
        """The first event.

        A refused request is sent again, for the server cannot have begun: no event has come, and
        either it said "later" or the request never left.
        """
        self._deadline = self._peer.clock() + self._limits.timeout_s
        attempt = 0
        while True:
            try:
                await self._open()
                return await self._read()
            except ServerError as refusal:
                pause_s = self._pause_s(refusal, attempt)
                if attempt == self._limits.retries or pause_s >= self._left_s():
                    raise
                if not refusal.retryable:
                    raise
            await self._connection.pause(pause_s, self._cancelled)
            attempt += 1

    async def _open(self) -> None:
        self._check_cancelled()
        if not self._peer.reached:
            await self._reach_first()
        if self._left_s() <= 0:
            raise self._too_late()
        self._call = self._connection.open(self._request, self._left_s())
        if self._cancelled.is_set():  # while it was being opened
            self._call.cancel()
            self._check_cancelled()

    async def _read(self) -> Event:
        """The next event of the open stream."""
        try:
            while (answer := await self._message()) is not None:
                if answer.error_message:
                    await self._read_to_the_end()
                    raise read_error(answer.error_message)
                event = read_response(answer.infer_response, self._parts)
                if isinstance(event, Part):
                    self._parts.append(event)
                if isinstance(event, Clip):
                    await self._read_to_the_end()
                    self._finished = True
                if event is not None:
                    self._begun = True
                    return event
        except CallFailed as failure:
            raise await self._explained(failure) from failure
        except Silence as silence:
            raise await self._explained_silence() from silence
        raise ServerError(f"the server at {self._peer.url} ended the stream without a clip")

    async def _message(self) -> Any:
        return None if self._call is None else await self._call.next(self._limits.idle_timeout_s)

    async def _read_to_the_end(self) -> None:
        """Let a stream that has given its last answer end by itself.

        Cancelled then, it stays in Triton for good, and its model can never be unloaded.
        """
        try:
            while await self._message() is not None:
                pass
        except (CallFailed, Silence):
            return

    async def _reach_first(self) -> None:
        """Reach the server, in the caller's time: too little of it proves no server absent."""
        left_s = self._left_s()
        try:
            await self._reach(min(self._limits.connect_timeout_s, left_s))
        except ServerUnreachable as error:
            if error.retryable or left_s >= self._limits.connect_timeout_s:
                raise
            raise self._no_answer_in_time() from error

    async def _reach(self, timeout_s: float) -> None:
        """A refusal comes back at once and silence after `timeout_s`, unlike in a long request."""
        request = service_pb2.ServerLiveRequest()
        try:
            await self._connection.ask("ServerLive", request, max(0.0, timeout_s))
        except CallFailed as failure:
            if failure.status in UNREACHED:
                raise self._unreachable(refused=failure.status == "UNAVAILABLE") from failure
        self._peer.reached = True

    async def _is_still_there(self) -> bool:
        self._peer.reached = False
        try:
            await self._reach(self._limits.connect_timeout_s)
        except ServerUnreachable:
            return False
        return True

    async def _explained(self, failure: CallFailed) -> ServerError:
        """The error for a stream that ended with a status.

        Only a hint of the server's own makes it one that may be retried.
        """
        if failure.never_sent:
            self._peer.reached = False
            return self._unreachable(refused=True)
        unexplained = failure.status == "UNAVAILABLE" and failure.retry_after_s is None
        if unexplained and not await self._is_still_there():  # a busy server may say the same
            return self._stopped_answering()
        if failure.status == "DEADLINE_EXCEEDED":
            return self._too_late(failure.details)
        if failure.status == "CANCELLED":
            return self._was_cancelled()
        if STOPPING.search(failure.details):
            return draining()
        details = failure.details or "no reason given"
        error = RequestRejected(details, failure.status, failure.retry_after_s)
        error.retryable = failure.status in LATER and failure.retry_after_s is not None
        return error

    async def _explained_silence(self) -> ServerError:
        if not await self._is_still_there():
            return self._stopped_answering()
        return DeadlineExceeded(
            f"the server at {self._peer.url} is there but sent nothing for "
            f"{self._limits.idle_timeout_s or 0:g} s; allow a longer idle_timeout_s, "
            "or look at the server's log"
        )

    def _unreachable(self, *, refused: bool) -> ServerUnreachable:
        """Nothing was sent: nobody listens there (`refused`), or whoever listens is silent."""
        error = ServerUnreachable(
            f"no server answers at {self._peer.url}; "
            "start one with: unsee serve, or give the address of a running one"
        )
        error.retryable = refused
        return error

    def _stopped_answering(self) -> ServerUnreachable:
        return ServerUnreachable(
            f"the server at {self._peer.url} stopped answering before the clip was finished"
        )

    def _too_late(self, said: str = "") -> DeadlineExceeded:
        """Over is `timeout_s`, unless the server `said` why it gave up, maybe at once."""
        if said and OWN_DEADLINE not in said.lower():
            return DeadlineExceeded(said)
        return DeadlineExceeded(
            f"no clip from {self._peer.url} within {self._limits.timeout_s:g} s; "
            "allow more time, or ask for fewer steps or frames"
        )

    def _no_answer_in_time(self) -> DeadlineExceeded:
        """The caller's time ran out before the server could show that it is there."""
        return DeadlineExceeded(
            f"{self._peer.url} did not answer within {self._limits.timeout_s:g} s, all the time "
            "that was given; allow more time"
        )

    def _was_cancelled(self) -> Cancelled:
        return Cancelled(f"the request to {self._peer.url} was cancelled before it finished")

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise self._was_cancelled()

    def _left_s(self) -> float:
        return self._deadline - self._peer.clock()

    def _pause_s(self, refusal: ServerError, attempt: int) -> float:
        """The server's own hint and a little more; else doubling, from half of it to the whole."""
        hint_s = refusal.retry_after_s if isinstance(refusal, RequestRejected) else None
        if hint_s is not None:
            return hint_s * (1 + 0.1 * self._peer.jitter())
        longest_s: float = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**attempt)
        return longest_s * (0.5 + 0.5 * self._peer.jitter())
