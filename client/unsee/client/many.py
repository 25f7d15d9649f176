"""Many clips at once, a bounded number of them in flight: with threads, and with tasks.

Knows neither servers nor requests: a caller says how one clip is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

from unsee.client.wire.driving import Drive
from unsee.core.errors import InputError, UnseeError
from unsee.media.clip import Clip

NOTICE_S = 0.2
"""A Ctrl-C just before a wait begins does not end it; it is noticed when the wait is over."""

Asked = TypeVar("Asked")
Outcome = tuple[int, Clip | UnseeError]
"""The index of a request, and what came of it."""


def in_threads(
    make: Callable[[int, Asked, Drive], Clip],
    new_drive: Callable[[], Drive],
    requests: Iterable[Asked],
    max_in_flight: int,
) -> Generator[Outcome, None, None]:
    """Yields outcomes as they come; leaving cancels what is in flight.

    An exception that is no `UnseeError` (a callback's, or of reading `requests`) ends it all.
    """
    numbered = enumerate(requests)
    in_flight: dict[Future[Clip], int] = {}
    drives: dict[int, Drive] = {}
    with ThreadPoolExecutor(max_in_flight, thread_name_prefix="unsee-clip") as pool:
        try:
            done: set[Future[Clip]] = set()
            while True:
                finished = [(in_flight.pop(future), future) for future in done]
                for index, asked in islice(numbered, max_in_flight - len(in_flight)):
                    drives[index] = new_drive()  # before it starts: Ctrl-C may come in between
                    in_flight[pool.submit(make, index, asked, drives[index])] = index
                for index, future in finished:
                    del drives[index]
                    yield index, _outcome(future)
                if not in_flight:
                    return
                done, _ = wait(in_flight, NOTICE_S, FIRST_COMPLETED)
        finally:
            for drive in drives.values():
                drive.cancel()


async def in_tasks(
    make: Callable[[int, Asked], Awaitable[Clip]],
    requests: Iterable[Asked],
    max_in_flight: int,
) -> AsyncGenerator[Outcome, None]:
    """The same with tasks of the running event loop."""
    numbered = enumerate(requests)
    in_flight: dict[asyncio.Future[Clip], int] = {}
    try:
        done: set[asyncio.Future[Clip]] = set()
        while True:
            finished = [(in_flight.pop(task), task) for task in done]
            for index, asked in islice(numbered, max_in_flight - len(in_flight)):
                in_flight[asyncio.ensure_future(make(index, asked))] = index
            for index, task in finished:
                yield index, _outcome(task)
            if not in_flight:
                return
            done, _ = await asyncio.wait(in_flight, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in in_flight:
            task.cancel()
        await asyncio.gather(*in_flight, return_exceptions=True)


def checked(max_in_flight: int) -> int:
    """Raises InputError unless at least one clip may be in flight."""
    if max_in_flight < 1:
        raise InputError(f"max_in_flight must be 1 or more, got {max_in_flight!r}")
    return max_in_flight


def _outcome(finished: Future[Clip] | asyncio.Future[Clip]) -> Clip | UnseeError:
    try:
        return finished.result()
    except UnseeError as error:
        return error
