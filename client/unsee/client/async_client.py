"""The client for asyncio: what `Client` does, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from itertools import islice
from types import TracebackType
from typing import Self, TypeVar, Unpack

from unsee.client.client import ClientBase, Outcome, check_max_in_flight, outcome_of
from unsee.client.connection import Connection, Transport
from unsee.client.conversation import Conversation, Event
from unsee.client.options import Options, Request, as_request
from unsee.media.clip import Clip, Progress

Item = TypeVar("Item")


class AsyncClient(ClientBase):
    """A connection of one event loop to one server; use it with `async with`.

    Its arguments and what they raise are those of `ClientBase`.
    """

    def stream(self, prompt: str, **options: Unpack[Options]) -> AsyncGenerator[Event, None]:
        """Yields a `Progress` per evaluation of the video model and last the `Clip`.

        With `stream_frames` a `Part` comes as soon as its frames are decoded; the clip has them
        all.

        Closing the generator, or cancelling its task, cancels the request on the server. Leave a
        loop early with `contextlib.aclosing`, or Python closes the generator some time later.
        Arguments and errors are those of `Client.stream`.
        """
        return _events(self._conversation(prompt, **options))

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
                if isinstance(event, Progress):
                    on_progress(event)
        raise AssertionError("a conversation ends with a clip or an error")

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
        event loop. Cancelling the task that reads the generator cancels what is in flight.
        """

        async def make(index: int, item: str | Request) -> Clip:
            request = as_request(item, options)
            return await self.generate(**request, on_progress=lambda step: on_progress(index, step))

        return _in_tasks(make, requests, check_max_in_flight(max_in_flight))

    async def close(self) -> None:
        """Closes the connection and cancels what is still in flight on it."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _connected(self, server: Transport) -> Connection:
        return server.connect_async()


async def _events(conversation: Conversation) -> AsyncGenerator[Event, None]:
    try:
        while (event := await conversation.next()) is not None:
            yield event
    finally:
        conversation.cancel()


async def _in_tasks(
    make: Callable[[int, Item], Awaitable[Clip]],
    requests: Iterable[Item],
    max_in_flight: int,
) -> AsyncGenerator[Outcome, None]:
    """Yields outcomes as they come; leaving cancels what is in flight."""
    numbered = enumerate(requests)
    in_flight: dict[asyncio.Future[Clip], int] = {}
    try:
        done: set[asyncio.Future[Clip]] = set()
        while True:
            finished = [(in_flight.pop(task), task) for task in done]
            for index, item in islice(numbered, max_in_flight - len(in_flight)):
                in_flight[asyncio.ensure_future(make(index, item))] = index
            for index, task in finished:
                yield index, outcome_of(task)
            if not in_flight:
                return
            done, _ = await asyncio.wait(in_flight, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in in_flight:
            task.cancel()
        await asyncio.gather(*in_flight, return_exceptions=True)
