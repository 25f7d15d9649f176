"""The open gRPC calls of the gateway: how many of each address, of each tenant, and in all.

A call whose caller is not known counts for its address. When an address has too many of them, the
oldest gives way, so that a caller who sends its message at once is answered, however many calls are
held open.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from ipaddress import IPv6Address, IPv6Network, ip_address
from urllib.parse import unquote

from unsee.gateway.callers.refusal import Refusal
from unsee.gateway.callers.settings import Limits, Tenant


class OpenCalls:
    """Used from one event loop.

    Args:
        on_refused: called for each call that gives way or is turned away.
    """

    def __init__(self, limits: Limits, on_refused: Callable[[], None]) -> None:
        self._limits = limits
        self._on_refused = on_refused
        self._of_tenant: Counter[str] = Counter()
        self._unknown: dict[str, OrderedDict[int, asyncio.Timeout]] = {}

    @asynccontextmanager
    async def of_peer(self, peer: str) -> AsyncIterator[None]:
        """A call from the address `peer` whose caller is not known, for as long as the block lasts.

        Raises:
            Refusal: DEADLINE_EXCEEDED; the block took too long, or had to give way to a newer call
                from the same address.
        """
        try:
            async with asyncio.timeout(self._limits.read_timeout_s) as patience:
                calls = self._unknown.setdefault(peer, OrderedDict())
                calls[id(patience)] = patience
                if len(calls) > self._limits.max_connections_per_peer:
                    _, oldest = calls.popitem(last=False)
                    oldest.reschedule(asyncio.get_running_loop().time())
                    self._on_refused()
                try:
                    yield
                finally:
                    calls.pop(id(patience), None)
                    if not calls:
                        self._unknown.pop(peer, None)
        except TimeoutError:
            raise Refusal(
                "DEADLINE_EXCEEDED",
                "too_slow",
                "the call brought no message, or did not take its answer, in time",
            ) from None

    @contextmanager
    def of_tenant(self, tenant: Tenant) -> Iterator[None]:
        """A call of `tenant`, for as long as the block lasts.

        Raises:
            Refusal: RESOURCE_EXHAUSTED; the tenant, or all together, have as many as they may.
        """
        most = self._limits.open_calls_of(tenant)
        if self._of_tenant[tenant.name] >= most:
            self._on_refused()
            raise too_many_calls(most)
        if self._of_tenant.total() >= self._limits.max_connections:
            self._on_refused()
            raise gateway_is_full()
        self._of_tenant[tenant.name] += 1
        try:
            yield
        finally:
            self._of_tenant[tenant.name] -= 1


def address_of(peer: str) -> str:
    """The address in gRPC's name of a peer, such as `ipv4:192.0.2.1:50000`, as `counted_as`."""
    host = peer.partition(":")[2].rpartition(":")[0]
    return counted_as(unquote(host).strip("[]"))


def counted_as(host: str) -> str:
    """The address that a caller at `host` counts for: of IPv6 its /64, which one caller has whole.

    What is no address counts for itself.
    """
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or IPv6Network((address, 64), strict=False))
    return host


def too_many_calls(most: int) -> Refusal:
    """What a tenant reads that has `most` calls open and makes another."""
    return Refusal(
        "RESOURCE_EXHAUSTED",
        "tenant_full",
        f"this caller has {most} calls open, which is the most it may have; close some",
        retry_after_s=1.0,
    )


def gateway_is_full() -> Refusal:
    """What a caller reads when every call or connection of the gateway is taken."""
    return Refusal(
        "UNAVAILABLE",
        "gateway_full",
        "too many connections are open here; try again in 1 s",
        retry_after_s=1.0,
    )
