"""How many clips are made at once, and how many requests may wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from text_to_video.refusal import Refusal

POLL_S = 0.25
"""How often a waiting request looks whether its client is still there; Triton tells nobody."""


class Admission:
    """Lets `running` requests in at once and `waiting` more queue; the next one is refused."""

    def __init__(self, running: int, waiting: int) -> None:
        self._places = asyncio.Semaphore(running)
        self._running = running
        self._limit = running + waiting
        self._present = 0

    @asynccontextmanager
    async def place(self, check: Callable[[], None]) -> AsyncIterator[None]:
        """Hold a place while in the block; raises Refusal (UNAVAILABLE) when the queue is full.

        `check` is called while the request waits, and once before the block; what it raises gives
        the place in the queue to others.
        """
        if self._present >= self._limit:
            raise Refusal(
                "UNAVAILABLE",
                f"the server is busy: {self._running} clips are being made and "
                f"{self._limit - self._running} requests wait; try again later",
            )
        self._present += 1
        try:
            await self._turn(check)
            try:
                check()
                yield
            finally:
                self._places.release()
        finally:
            self._present -= 1

    async def _turn(self, check: Callable[[], None]) -> None:
        """Take a place, in the order of arrival."""
        turn = asyncio.ensure_future(self._places.acquire())
        try:
            while not (await asyncio.wait({turn}, timeout=POLL_S))[0]:
                check()
        except BaseException:
            if not turn.cancel():  # it came at the same moment
                self._places.release()
            raise
