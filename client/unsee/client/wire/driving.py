"""Performs the steps of a conversation: once for ordinary code, once for asyncio.

Knows transports and steps; what the steps are for is `conversation`'s business.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator
from typing import Any

from unsee.client.wire.steps import Ask, Event, Next, Open, Sleep, Steps, Work
from unsee.client.wire.transport import (
    AsyncCall,
    AsyncTransport,
    Call,
    CallFailed,
    Silence,
    Transport,
)
from unsee.core.errors import Cancelled
from unsee.media.clip import Clip, Progress


class Drive:
    """One conversation over a transport; `cancel` ends it from any thread."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._call: Call | None = None
        self._cancelled = threading.Event()

    def events(self, steps: Steps) -> Generator[Event, None, None]:
        """The events of the conversation; closing the generator cancels it."""
        try:
            step = next(steps)
            while True:
                if isinstance(step, Progress | Clip):
                    yield step
                    step = next(steps)
                    continue
                try:
                    result = self._perform(step)
                except (CallFailed, Silence) as failure:
                    step = steps.throw(failure)
                else:
                    step = steps.send(result)
        except StopIteration:
            return
        finally:
            self._end_call()
            steps.close()

    def cancel(self) -> None:
        """The conversation ends with `Cancelled`, or where it is."""
        self._cancelled.set()
        self._end_call()

    def _perform(self, step: Work) -> Any:
        if self._cancelled.is_set():
            raise Cancelled("the request was cancelled before it finished")
        match step:
            case Ask(method, request, timeout_s):
                return self._transport.ask(method, request, timeout_s)
            case Open(request, timeout_s):
                self._call = self._transport.open(request, timeout_s)
                if self._cancelled.is_set():  # in between
                    self._call.cancel()
            case Next(idle_timeout_s):
                return None if self._call is None else self._call.next(idle_timeout_s)
            case Sleep(seconds):
                self._cancelled.wait(seconds)
        return None

    def _end_call(self) -> None:
        if self._call is not None:
            self._call.cancel()


class AsyncDrive:
    """The same for asyncio; cancelling the task that awaits it ends it."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._call: AsyncCall | None = None

    async def events(self, steps: Steps) -> AsyncGenerator[Event, None]:
        """See `Drive.events`."""
        try:
            step = next(steps)
            while True:
                if isinstance(step, Progress | Clip):
                    yield step
                    step = next(steps)
                    continue
                try:
                    result = await self._perform(step)
                except (CallFailed, Silence) as failure:
                    step = steps.throw(failure)
                else:
                    step = steps.send(result)
        except StopIteration:
            return
        finally:
            if self._call is not None:
                self._call.cancel()
            steps.close()

    async def _perform(self, step: Work) -> Any:
        match step:
            case Ask(method, request, timeout_s):
                return await self._transport.ask(method, request, timeout_s)
            case Open(request, timeout_s):
                self._call = self._transport.open(request, timeout_s)
            case Next(idle_timeout_s):
                return None if self._call is None else await self._call.next(idle_timeout_s)
            case Sleep(seconds):
                await asyncio.sleep(seconds)
        return None
