"""Whose turn it is: so many clips at once, a bounded queue, and weighted fairness between tenants.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) over running places: each tenant has a
virtual time that grows by work / weight when a clip of it starts, and the waiting tenant that is
furthest behind goes first. A tenant that was idle does not save up turns. Knows no transport and
not what the work is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from unsee.gateway.callers.refusal import Reason, Refusal
from unsee.gateway.callers.settings import Limits, Tenant

LEAST_RETRY_S = 1.0


@dataclass(frozen=True)
class PlaceRequest:
    """A request for a place.

    Args:
        work: in clips of the default size.
        seconds: what the clip takes at best; None if nobody knows.
        remaining_s: what is left of the caller's time.
    """

    tenant: Tenant
    work: float
    seconds: float | None
    remaining_s: float


@dataclass
class _Line:
    """One tenant's requests: those that wait, how many run, and its virtual time."""

    tenant: Tenant
    virtual_time: float = 0.0
    running: int = 0
    waiting: deque[_Ticket] = field(default_factory=deque)


@dataclass(eq=False)
class _Ticket:
    asked: PlaceRequest
    turn: asyncio.Future[None]


class Admission:
    """The places and the queue of one gateway; used from one event loop."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lines: dict[str, _Line] = {}
        self._virtual_time = 0.0
        self._running = 0
        self._running_seconds = 0.0
        self._waiting = 0
        self._open = True

    @property
    def running(self) -> int:
        """Clips being made."""
        return self._running

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return self._waiting

    def load(self, tenant: str) -> tuple[int, int]:
        """(running, waiting) of one tenant."""
        line = self._lines.get(tenant)
        return (line.running, len(line.waiting)) if line else (0, 0)

    def close(self) -> None:
        """Refuse all that comes from now on, and all that still waits."""
        self._open = False
        for line in self._lines.values():
            for ticket in line.waiting:
                if not ticket.turn.done():
                    ticket.turn.set_exception(_draining())

    @asynccontextmanager
    async def place(self, asked: PlaceRequest) -> AsyncIterator[None]:
        """Hold a place while in the block.

        Raises:
            Refusal: at once if the queue is full or the time cannot suffice; else if the time is
                over before a place is free.
        """
        line = self._lines.setdefault(asked.tenant.name, _Line(asked.tenant))
        line.tenant = asked.tenant  # its share may have been changed since
        self._check(line, asked)
        ticket = _Ticket(asked, asyncio.get_running_loop().create_future())
        self._enter(line, ticket)
        try:
            await self._turn(ticket)
            yield
        finally:
            self._leave(line, ticket)

    async def _turn(self, ticket: _Ticket) -> None:
        remaining_s = ticket.asked.remaining_s
        try:
            async with asyncio.timeout(remaining_s):
                await ticket.turn
        except TimeoutError:
            raise Refusal(
                "DEADLINE_EXCEEDED",
                self._what_is_full(),
                f"no place became free within {remaining_s:.1f} s; allow more time, or ask later",
            ) from None

    def _what_is_full(self) -> Reason:
        """Why a request has to wait: the gateway's places are taken, or else its tenant's are."""
        return "wait" if self._running >= self._limits.max_running else "tenant_full"

    def _check(self, line: _Line, asked: PlaceRequest) -> None:
        if not self._open:
            raise _draining()
        tenant, seconds = asked.tenant, asked.seconds
        if seconds is not None and self._running and seconds > asked.remaining_s:
            raise Refusal(
                "DEADLINE_EXCEEDED",
                "deadline",
                f"this clip takes at least {seconds:.1f} s and {asked.remaining_s:.1f} s are left; "
                "allow more time, or ask for fewer steps or frames",
            )
        if not self._must_wait(line):
            return
        wait_s = self._expected_wait_s(line)
        if self._waiting >= self._limits.max_waiting:
            raise _full(
                "gateway_full", f"the service is busy: {self._waiting} requests wait", wait_s
            )
        if len(line.waiting) >= tenant.max_waiting:
            raise _full(
                "tenant_full",
                f"{line.running} of this caller's clips are being made and "
                f"{len(line.waiting)} of its requests wait",
                wait_s,
            )
        if seconds is not None and wait_s + seconds > asked.remaining_s:
            raise _full(
                self._what_is_full(),
                f"the clip would be ready in about {wait_s + seconds:.1f} s and "
                f"{asked.remaining_s:.1f} s are left",
                wait_s,
            )

    def _must_wait(self, line: _Line) -> bool:
        return (
            self._running >= self._limits.max_running
            or line.running >= line.tenant.max_concurrent
            or bool(line.waiting)
        )

    def _expected_wait_s(self, line: _Line) -> float:
        """At best: the first of the running clips ends, then the tenant's own line moves on."""
        first_end = self._running_seconds / max(self._running, 1) / (self._running + 1)
        queued = sum(ticket.asked.seconds or 0.0 for ticket in line.waiting)
        share = line.tenant.weight / self._competing_weight(line)
        places = min(line.tenant.max_concurrent, share * self._limits.max_running)
        return first_end + queued / places

    def _competing_weight(self, line: _Line) -> float:
        others = (o for o in self._lines.values() if o is not line and (o.waiting or o.running))
        return line.tenant.weight + sum(other.tenant.weight for other in others)

    def _enter(self, line: _Line, ticket: _Ticket) -> None:
        if not line.waiting:
            line.virtual_time = max(line.virtual_time, self._virtual_time)
        line.waiting.append(ticket)
        self._waiting += 1
        self._dispatch()

    def _leave(self, line: _Line, ticket: _Ticket) -> None:
        if ticket in line.waiting:
            line.waiting.remove(ticket)
            self._waiting -= 1
        else:
            line.running -= 1
            self._running -= 1
            self._running_seconds -= ticket.asked.seconds or 0.0
        self._dispatch()

    def _dispatch(self) -> None:
        while self._running < self._limits.max_running:
            ready = [
                line
                for line in self._lines.values()
                if line.waiting and line.running < line.tenant.max_concurrent
            ]
            if not ready:
                return
            self._start(min(ready, key=lambda line: line.virtual_time))

    def _start(self, line: _Line) -> None:
        ticket = line.waiting.popleft()
        self._waiting -= 1
        self._virtual_time = max(self._virtual_time, line.virtual_time)
        line.virtual_time += ticket.asked.work / line.tenant.weight
        line.running += 1
        self._running += 1
        self._running_seconds += ticket.asked.seconds or 0.0
        if not ticket.turn.done():
            ticket.turn.set_result(None)


def _full(reason: Reason, what: str, wait_s: float) -> Refusal:
    after = max(wait_s, LEAST_RETRY_S)
    return Refusal(
        "RESOURCE_EXHAUSTED",
        reason,
        f"{what}; try again in {after:.0f} s",
        retry_after_s=after,
    )


def _draining() -> Refusal:
    return Refusal(
        "UNAVAILABLE",
        "draining",
        "this gateway is going down; ask another one, or try again later",
        retry_after_s=LEAST_RETRY_S,
    )
