"""The client for asyncio: what `client` does, awaited.

What happens in a request is `conversation`'s business.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from types import TracebackType
from typing import Self, Unpack

from unsee.client.base import SETTLE_PAUSE_S, SETTLE_S, ClientBase
from unsee.client.many import Outcome, checked, in_tasks
from unsee.client.wire.driving import AsyncDrive
from unsee.client.wire.failures import no_clip
from unsee.client.wire.options import Options, Request, as_request
from unsee.client.wire.steps import Event
from unsee.client.wire.transport import Server
from unsee.media.clip import Clip, Progress


class AsyncClient(ClientBase):
    """A connection of one event loop to one server; use it with `async with`.

    Its arguments and what they raise are those of `ClientBase`.
    """

    def _connect(self, server: Server) -> None:
        self._transport = server.connect_async()

    def stream(self, prompt: str, **options: Unpack[Options]) -> AsyncGenerator[Event, None]:
        """Yields a `Progress` per evaluation of the video model and last the `Clip`.

        Closing the generator, or cancelling its task, cancels the request on the server. Leave a
        loop early with `contextlib.aclosing`, or Python closes the generator some time later.
        Arguments and errors are those of `Client.stream`.
        """
        return self._drive().events(self._conversation(prompt, **options).steps())

    async def generate(
        self,
        prompt: str,
        *,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        **options: Unpack[Options],
    ) -> Clip:
        """Waits for the clip of `prompt` and returns it.

        Arguments and errors are those of `Client.generate`.
        """
        async with aclosing(self.stream(prompt, **options)) as events:
            async for event in events:
                if isinstance(event, Clip):
                    return event
                on_progress(event)
        raise no_clip(self.url)

    def generate_many(
        self,
        requests: Iterable[str | Request],
        *,
        max_in_flight: int = 4,
        on_progress: Callable[[int, Progress], None] = lambda index, progress: None,
        **options: Unpack[Options],
    ) -> AsyncGenerator[Outcome, None]:
        """Yields `(index, clip)` or `(index, error)` as the clips finish, in whatever order.

        Arguments and errors are those of `Client.generate_many`; `on_progress` is called in the
        event loop.
        """

        async def make(index: int, asked: str | Request) -> Clip:
            request = as_request(asked, options)
            return await self.generate(**request, on_progress=lambda step: on_progress(index, step))

        return in_tasks(make, requests, checked(max_in_flight))

    async def close(self) -> None:
        """Closes the connection and cancels what is still in flight on it."""
        shared_memory, give_up = self._peer.shared_memory, time.monotonic() + SETTLE_S
        while shared_memory.unsettled and time.monotonic() < give_up:
            async for _ in self._drive().events(shared_memory.settle()):
                pass
            await asyncio.sleep(SETTLE_PAUSE_S if shared_memory.unsettled else 0)
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _drive(self) -> AsyncDrive:
        return AsyncDrive(self._transport)
