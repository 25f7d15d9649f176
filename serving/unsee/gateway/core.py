"""What happens to every request, whichever way it came: known, permitted, admitted, made, noted.

Knows no transport: a front hands over what the caller showed and how to read its request, and
passes on the answers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from unsee.core.errors import InputError
from unsee.gateway.behind.measured import Measured
from unsee.gateway.behind.revisions import RepositoryView
from unsee.gateway.behind.upstream import Answer, Upstream
from unsee.gateway.callers.admission import Admission, PlaceRequest
from unsee.gateway.callers.credentials import Credentials, Presented
from unsee.gateway.callers.permission import check_policy, permitted, require_operator
from unsee.gateway.callers.refusal import Refusal
from unsee.gateway.callers.request import ClipRequest, to_protobuf
from unsee.gateway.callers.settings import Settings, Tenant
from unsee.gateway.observe.account import MAX_INCIDENTS, Entry, Front, Incident, Ledger
from unsee.gateway.observe.evidence import ActiveEvidence
from unsee.gateway.observe.metrics import Metrics
from unsee.gateway.observe.readiness import Readiness
from unsee.gateway.observe.tracing import Tracer
from unsee.media.clip import Clip, Part
from unsee.repository import ledger

LOGGER = logging.getLogger("unsee.gateway")
Read = Callable[[], tuple[ClipRequest, str]]
"""Reads the request and the caller's id for it; raises Refusal."""
T = TypeVar("T")


@dataclass(frozen=True)
class Deadline:
    """When a caller's time is up.

    Args:
        allowed_s: what it had in all.
        is_cut: whether it wanted more than anybody may have.
    """

    allowed_s: float
    ends_at: float
    is_cut: bool = False

    @property
    def remaining_s(self) -> float:
        """Seconds left; 0 or less when it is over."""
        return self.ends_at - time.monotonic()

    async def hold(self, work: Awaitable[T]) -> T:
        """The result of `work`, if it comes in time; raises Refusal (DEADLINE_EXCEEDED) if not."""
        try:
            async with asyncio.timeout(max(self.remaining_s, 0.0)):
                return await work
        except TimeoutError:
            advice = "allow more time, or ask for fewer steps or frames"
            if self.is_cut:
                advice = "that is the most that anybody may have; ask for fewer steps or frames"
            raise Refusal(
                "DEADLINE_EXCEEDED", "deadline", f"no clip within {self.allowed_s:g} s; {advice}"
            ) from None


class Gateway:
    """The core of one gateway; used from one event loop."""

    def __init__(self, settings: Settings, upstream: Upstream, tracer: Tracer) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.ledger = Ledger(self.metrics, tracer, log_prompts=settings.log_prompts)
        self.repository = RepositoryView(settings.repository, settings.verify_with)
        evidence = ActiveEvidence(settings.repository, self.active_revisions, settings.verify_with)
        self.metrics.registry.register(evidence)
        self.upstream = upstream
        self.readiness = Readiness(upstream)
        self.admission = Admission(settings.limits)
        self.draining = False
        self._credentials = Credentials(settings.tenants)
        self._measured = Measured()
        for tenant in settings.tenants:
            self._show_load(tenant.name)

    def authenticate(self, front: Front, presented: Presented) -> Tenant:
        """The tenant that calls; a refusal is accounted for."""
        return self.accounted(front, "", lambda: self._credentials.tenant(presented))

    def operator(self, front: Front, presented: Presented) -> Tenant:
        """The operator that calls; raises Refusal for anybody else."""
        tenant = self.authenticate(front, presented)
        self.accounted(front, tenant.name, lambda: require_operator(tenant))
        return tenant

    def policy(self, front: Front, tenant: Tenant, policy: str) -> str:
        """`policy`, if `tenant` may use it; a refusal is accounted for."""
        return self.accounted(front, tenant.name, lambda: check_policy(tenant, policy))

    def accounted(self, front: Front, tenant: str, check: Callable[[], T]) -> T:
        """What `check` gives; if it refuses, that is a request of `tenant` that was refused."""
        try:
            return check()
        except Refusal:
            with self.ledger.request(front, tenant):
                raise

    def use_tenants(self, settings: Settings) -> None:
        """Know callers by the tenants of `settings` from now on; what runs goes on."""
        self.settings = self.settings.model_copy(update={"tenants": settings.tenants})
        self._credentials = Credentials(settings.tenants)
        for tenant in settings.tenants:
            self._show_load(tenant.name)

    def deadline(self, wanted_s: float | None) -> Deadline:
        """The caller's deadline, within the bounds of the settings."""
        limits = self.settings.limits
        wanted_s = limits.default_deadline_s if wanted_s is None else wanted_s
        allowed_s = min(wanted_s, limits.max_deadline_s)
        return Deadline(allowed_s, time.monotonic() + allowed_s, is_cut=wanted_s > allowed_s)

    async def clip(
        self, front: Front, tenant: Tenant, read: Read, deadline: Deadline
    ) -> AsyncGenerator[Answer, None]:
        """The events of one clip, the clip last.

        They are read as they are made: the place is free when the clip is made, whether or not the
        caller has taken its events. Closing the iterator cancels the request in Triton and frees
        the place at once.

        Raises:
            Refusal: whatever the reason; nothing else.
        """
        with self.ledger.request(front, tenant.name) as entry:
            asked, entry.client_id = read()
            entry.prompt = asked.prompt
            request = permitted(tenant, asked)
            entry.policy, entry.revision = request.policy or "", request.revision
            placed = self._placed(tenant, request, deadline, entry)
            async with aclosing(_read_ahead(placed)) as answers:
                async for answer in answers:
                    if isinstance(answer.event, Part):
                        entry.frames_sent += len(answer.event.frames)
                    yield answer

    def close(self) -> None:
        """Take no more requests; what runs goes on."""
        self.draining = True
        self.admission.close()

    async def _placed(
        self, tenant: Tenant, request: ClipRequest, deadline: Deadline, entry: Entry
    ) -> AsyncGenerator[Answer, None]:
        """The answers of Triton in a place of `tenant`, the clip when the place is free again."""
        last = None
        async with AsyncExitStack() as stack:
            await self._take_place(stack, tenant, request, deadline, entry)
            answers = await stack.enter_async_context(
                aclosing(self._made(request, deadline, entry))
            )
            async for answer in answers:
                if isinstance(answer.event, Clip):
                    last = answer
                else:
                    yield answer
        if last is not None:
            yield last

    async def _take_place(
        self,
        stack: AsyncExitStack,
        tenant: Tenant,
        request: ClipRequest,
        deadline: Deadline,
        entry: Entry,
    ) -> None:
        asked = PlaceRequest(
            tenant,
            work=self._measured.work(request),
            seconds=self._measured.seconds(request),
            remaining_s=deadline.remaining_s,
        )
        started = time.monotonic()
        await stack.enter_async_context(self.admission.place(asked))
        entry.wait_s = round(time.monotonic() - started, 4)

    async def _made(
        self, request: ClipRequest, deadline: Deadline, entry: Entry
    ) -> AsyncGenerator[Answer, None]:
        """The answers of Triton, timed: what later requests are estimated by."""
        idle_timeout_s = self.settings.limits.idle_timeout_s or self._measured.idle_timeout_s(
            request
        )
        stream = self.upstream.stream(to_protobuf(request, entry.id), idle_timeout_s)
        started = seen = time.monotonic()
        longest_gap = 0.0
        async with aclosing(stream) as answers:
            while (answer := await deadline.hold(anext(answers, None))) is not None:
                now = time.monotonic()
                longest_gap, seen = max(longest_gap, now - seen), now
                if isinstance(answer.event, Clip):
                    entry.clip_s = round(now - started, 4)
                    self._measured.saw_clip(
                        request, answer.event.record, now - started, longest_gap
                    )
                    self.ledger.made(entry, request, answer.event.record)
                yield answer

    def active_revisions(self) -> dict[str, int | None]:
        """The active revision of each policy that a tenant may use; None where it is not known."""
        used = {policy for tenant in self.settings.tenants for policy in tenant.policies}
        return self.repository.active(sorted(used))

    def _show_load(self, tenant: str) -> None:
        self.metrics.running.labels(tenant).set_function(lambda: self.admission.load(tenant)[0])
        self.metrics.waiting.labels(tenant).set_function(lambda: self.admission.load(tenant)[1])

    def status(self) -> dict[str, Any]:
        """The gateway's state as JSON values, for an operator."""
        limits = self.settings.limits
        tenants = {t.name: self.admission.load(t.name) for t in self.settings.tenants}
        return {
            "draining": self.draining,
            "running": self.admission.running,
            "waiting": self.admission.waiting,
            "max_running": limits.max_running,
            "max_waiting": limits.max_waiting,
            "tenants": {n: {"running": r, "waiting": w} for n, (r, w) in tenants.items()},
            "active_revisions": self.active_revisions(),
            "incidents": [vars(one) for one in self._incidents()],
        }

    def _incidents(self) -> list[Incident]:
        """What the gateway saw and what `unsee serve` put right behind it, newest first."""
        found = list(self.ledger.incidents)
        try:
            if self.settings.repository is not None:
                for one in ledger.last_incidents(self.settings.repository, MAX_INCIDENTS):
                    found.append(Incident(one.at.isoformat(timespec="seconds"), one.what))
        except InputError as error:
            LOGGER.error("%s", error)
        return sorted(found, key=lambda one: one.at, reverse=True)


async def _read_ahead(answers: AsyncGenerator[Answer, None]) -> AsyncGenerator[Answer, None]:
    """`answers`, read as fast as they come however slowly they are taken; at most a clip waits."""
    waiting: asyncio.Queue[Answer | None] = asyncio.Queue()

    async def read() -> None:
        try:
            async with aclosing(answers):
                async for answer in answers:
                    waiting.put_nowait(answer)
        finally:
            waiting.put_nowait(None)

    reading = asyncio.create_task(read())
    try:
        while (answer := await waiting.get()) is not None:
            yield answer
        await reading
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
