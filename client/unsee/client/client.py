"""A client of the `text_to_video` model: streams progress and the clip over gRPC.

Knows no command line and no files. It speaks to one model only; the repository API is for whoever
runs the server. What happens in a request is `conversation`'s business.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from types import TracebackType
from typing import Self, Unpack

from unsee.client.base import DEFAULT_URL, SETTLE_PAUSE_S, SETTLE_S, ClientBase
from unsee.client.many import Outcome, checked, in_threads
from unsee.client.wire.conversation import Conversation
from unsee.client.wire.driving import Drive
from unsee.client.wire.failures import no_clip
from unsee.client.wire.options import Options, Request, as_request
from unsee.client.wire.steps import Event
from unsee.client.wire.transport import Server
from unsee.media.clip import Clip, Progress

__all__ = ["DEFAULT_URL", "Client"]


class Client(ClientBase):
    """A connection to one server; usable from several threads and as a context manager.

    Its arguments and what they raise are those of `ClientBase`.
    """

    def _connect(self, server: Server) -> None:
        self._transport = server.connect()

    def stream(self, prompt: str, **options: Unpack[Options]) -> Generator[Event, None, None]:
        """Yields a `Progress` per evaluation of the video model and last the `Clip`.

        Closing the generator cancels the request on the server.

        Args:
            prompt: what the clip should show.
            options: see `Options`; the server decides what is left out.

        Raises:
            InputError: a value does not fit its type; nothing was sent.
            RequestRejected: the server refused the request.
            ServerUnreachable: nobody answers at the address, or the connection broke.
            DeadlineExceeded: `timeout_s` or `idle_timeout_s` ran out.
            Cancelled: the request was cancelled.
        """
        return self._drive().events(self._conversation(prompt, **options).steps())

    def generate(
        self,
        prompt: str,
        *,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        **options: Unpack[Options],
    ) -> Clip:
        """Waits for the clip of `prompt` and returns it.

        Args:
            prompt: what the clip should show.
            on_progress: called after each evaluation of the video model.
            options: see `Options`; the server decides what is left out.

        Raises:
            UnseeError: as `stream`.
        """
        return self._clip(self._drive(), self._conversation(prompt, **options), on_progress)

    def generate_many(
        self,
        requests: Iterable[str | Request],
        *,
        max_in_flight: int = 4,
        on_progress: Callable[[int, Progress], None] = lambda index, progress: None,
        **options: Unpack[Options],
    ) -> Generator[Outcome, None, None]:
        """Yields `(index, clip)` or `(index, error)` as the clips finish, in whatever order.

        At most `max_in_flight` are asked for at once, and `requests` is read no faster. Closing
        the generator, or leaving it by an exception, cancels what is in flight.

        Args:
            requests: prompts, or dictionaries of a `prompt` and any `Options` (see `Request`).
            max_in_flight: how many clips are asked for at once, 1 or more.
            on_progress: called with a request's index and each of its steps, from several threads.
            options: for every clip, unless its dictionary says otherwise.

        Raises:
            InputError: `max_in_flight` is less than 1. A request that cannot be sent is an error
                in its place.
        """

        def make(index: int, asked: str | Request, drive: Drive) -> Clip:
            conversation = self._conversation(**as_request(asked, options))
            return self._clip(drive, conversation, lambda step: on_progress(index, step))

        return in_threads(make, self._drive, requests, checked(max_in_flight))

    def close(self) -> None:
        """Closes the connection and cancels what is still in flight on it."""
        shared_memory, give_up = self._peer.shared_memory, time.monotonic() + SETTLE_S
        while shared_memory.unsettled and time.monotonic() < give_up:
            for _ in self._drive().events(shared_memory.settle()):
                pass
            time.sleep(SETTLE_PAUSE_S if shared_memory.unsettled else 0)
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _drive(self) -> Drive:
        return Drive(self._transport)

    def _clip(
        self, drive: Drive, conversation: Conversation, on_progress: Callable[[Progress], None]
    ) -> Clip:
        with closing(drive.events(conversation.steps())) as events:
            for event in events:
                if isinstance(event, Clip):
                    return event
                on_progress(event)
        raise no_clip(self.url)
