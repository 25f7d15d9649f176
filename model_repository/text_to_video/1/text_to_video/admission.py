"""How many clips are made at once, and how many requests may wait; knows nothing of clips."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from text_to_video.refusal import Refusal


class Admission:
    """Lets `running` requests in at once and `waiting` more queue; the next one is refused."""

    def __init__(self, running: int, waiting: int) -> None:
        self._places = asyncio.Semaphore(running)
        self._running = running
        self._limit = running + waiting
        self._present = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place while in the block; raises Refusal (UNAVAILABLE) when the queue is full."""
        if self._present >= self._limit:
            raise Refusal(
                "UNAVAILABLE",
                f"the server is busy: {self._running} clips are being made and "
                f"{self._limit - self._running} requests wait; try again later",
            )
        self._present += 1
        try:
            async with self._places:
                yield
        finally:
            self._present -= 1
