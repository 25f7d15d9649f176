"""The HTTP connections of the gateway: uvicorn's, each with deadlines, and a bound on their number.

uvicorn bounds neither the time that the head or the body of a request may take, nor the connections
of one address, and does not tell an application whose certificate a connection has shown. asyncio
shows it no connection before TLS is agreed on, so these agree on it themselves: a caller that never
does is counted and cut off like any other.
"""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from unsee.gateway.callers.settings import Limits, Tenant, Tls
from unsee.gateway.fronts.http_exchange import CONNECTION, LIVE_PATH, refuse_when_full
from unsee.gateway.fronts.open_calls import counted_as, too_many_calls

MAX_HEAD_BYTES = 16 * 1024
LINGER_S = 1.0
"""How long the rest of a body may still come when its request has been answered."""
SPARE_CONNECTIONS = 32
"""Beyond the limit; they get an answer on the liveness path and a refusal anywhere else."""


class HttpServer(uvicorn.Server):
    """uvicorn without signal handlers of its own: the gateway has one way to stop."""

    def __init__(self, config: uvicorn.Config, connections: Connections) -> None:
        super().__init__(config)
        self._connections = connections

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Leave the signals alone."""
        return nullcontext()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: close what has had its time."""
        self._connections.close_overdue()
        return await super().on_tick(counter)


def http_server(
    app: ASGIApp, limits: Limits, tls: Tls | None, on_refused: Callable[[], None]
) -> HttpServer:
    """A server of `app`; it logs its own faults alone and serves the sockets it is given.

    Args:
        on_refused: called for each connection that is closed to make room for another one.
    """
    connections = Connections(limits, on_refused)
    config = uvicorn.Config(
        app,
        http=_protocol(connections, tls),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",  # a warning for every malformed request would let anybody fill the log
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=max(1, math.ceil(limits.drain_timeout_s)),
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
    )
    return HttpServer(config, connections)


class Connections:
    """The open connections of one HTTP front, and which of them must go.

    A connection on which a tenant's request is being served is never closed for another's sake.
    The others, whoever opened them, are worth the less the longer they have been without a
    request: when an address has too many, or the front is full, the oldest of them is closed. So
    a caller who sends its request at once gets in, however many connections are held open idle.
    """

    def __init__(self, limits: Limits, on_refused: Callable[[], None]) -> None:
        self._limits = limits
        self._on_refused = on_refused
        self._open: set[GuardedConnection] = set()

    def add(self, connection: GuardedConnection) -> None:
        """Take a new connection in, and make room for it."""
        self._open.add(connection)
        idle = [each for each in self._open if each.tenant is None and not each.spare]
        of_peer = [each for each in idle if each.peer == connection.peer]
        if len(of_peer) > self._limits.max_connections_per_peer:
            self._give_up(min(of_peer, key=_age))
        elif sum(not each.spare for each in self._open) > self._limits.max_connections:
            if len(idle) > 1:
                self._give_up(min(idle, key=_age))
            else:
                self._make_spare(connection)

    def discard(self, connection: GuardedConnection) -> None:
        """Forget a connection that is closed."""
        self._open.discard(connection)

    def enter(self, connection: GuardedConnection, tenant: Tenant) -> None:
        """Note that a request of `tenant` is being served.

        Raises:
            Refusal: RESOURCE_EXHAUSTED; the tenant has as many open as it may.
        """
        if connection.tenant == tenant.name:
            return
        most = self._limits.open_calls_of(tenant)
        if sum(each.tenant == tenant.name for each in self._open) >= most:
            self._on_refused()
            raise too_many_calls(most)
        connection.tenant = tenant.name

    def close_overdue(self) -> None:
        """Close what has been too slow to send a whole request, or to take its answer."""
        now = time.monotonic()
        for connection in tuple(self._open):
            if connection.overdue(now, self._limits.read_timeout_s):
                connection.abort()

    def _make_spare(self, connection: GuardedConnection) -> None:
        connection.spare = True
        spare = [each for each in self._open if each.spare]
        if len(spare) > SPARE_CONNECTIONS:
            self._give_up(min(spare, key=_age))

    def _give_up(self, connection: GuardedConnection) -> None:
        self._on_refused()
        self._open.discard(connection)
        connection.abort()


class GuardedConnection(H11Protocol):
    """One connection, with what its registry needs to judge it."""

    registry: Connections
    tls: ssl.SSLContext | None = None
    """None: unencrypted."""
    peer = ""
    spare = False
    """Whether it was opened beyond the limit."""
    tenant: str | None = None
    """Whose request is being served; None while nobody's is whom the gateway knows."""
    certificate_name: str | None = None
    """The one common name of its verified client certificate; None without one."""
    since = 0.0
    """When it was opened or encrypted, the last answer ended, or the head of the request came."""
    _handshake: asyncio.Task[None] | None = None
    """Under way; None once requests may come."""
    _early = b""
    """What came while the handshake was ending."""
    _unsent = 0
    _unsent_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.peer = counted_as(self.client[0]) if self.client else ""
        self.since = time.monotonic()
        if self.tls is None:
            self.app = _introduced(self.app, self)
        else:
            transport.pause_reading()
            self._handshake = asyncio.ensure_future(self._agree(transport, self.tls))
        self.registry.add(self)

    async def _agree(self, plain: asyncio.Transport, tls: ssl.SSLContext) -> None:
        """Agree on TLS over `plain`, and go on over what is encrypted."""
        if plain.is_closing():  # it gave way to another one
            return
        encrypted = None
        with suppress(OSError):  # which all errors of TLS are
            loop = asyncio.get_running_loop()
            encrypted = await loop.start_tls(plain, self, tls, server_side=True)
        if encrypted is None or plain.is_closing():
            if encrypted is not None:
                encrypted.abort()
            self.connection_lost(None)
            return
        super().connection_made(encrypted)
        self.since = time.monotonic()
        self.certificate_name = _common_name(encrypted)
        self.app = _introduced(self.app, self)
        self._handshake = None
        if self._early:
            self.data_received(self._early)

    def data_received(self, data: bytes) -> None:
        if self._handshake is not None:
            self._early += data
            return
        was_idle = self.conn.their_state is h11.IDLE
        super().data_received(data)
        if was_idle and self.conn.their_state is not h11.IDLE:
            self.since = time.monotonic()

    def on_response_complete(self) -> None:
        self.tenant = None
        self.since = time.monotonic()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self.registry.discard(self)
        super().connection_lost(exc)

    def overdue(self, now: float, timeout_s: float) -> bool:
        """Whether the caller has let `timeout_s` go by without what it had to do next."""
        unsent = self.transport.get_write_buffer_size()
        if unsent == 0 or unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, now
        if now - self._unsent_since > timeout_s:
            return True
        waited = now - self.since
        if self.conn.their_state is h11.SEND_BODY:
            answered = self.cycle is not None and self.cycle.response_complete
            return waited > (LINGER_S if answered else timeout_s + LINGER_S)
        return self.conn.their_state is h11.IDLE and waited > timeout_s

    def serve(self, tenant: Tenant) -> None:
        """Say whose the present request is; raises Refusal if the tenant has too many open."""
        self.registry.enter(self, tenant)

    def abort(self) -> None:
        """End the connection now, whatever is still to be sent."""
        self.transport.abort()


def _age(connection: GuardedConnection) -> float:
    return connection.since


def _protocol(connections: Connections, tls: Tls | None) -> type[GuardedConnection]:
    context = None if tls is None else _tls_context(tls)
    return type("Connection", (GuardedConnection,), {"registry": connections, "tls": context})


def _tls_context(tls: Tls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.certificate, tls.key)
    if tls.client_ca is not None:
        context.load_verify_locations(tls.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _introduced(app: Any, connection: GuardedConnection) -> Any:
    """`app`, which finds its connection in the scope; a connection beyond the limit is refused."""

    async def introduced(scope: Scope, receive: Receive, send: Send) -> None:
        scope[CONNECTION] = connection
        if connection.spare and scope["path"] != LIVE_PATH:
            await refuse_when_full(scope, receive, send)
            return
        await app(scope, receive, send)

    return introduced


def _common_name(transport: asyncio.Transport) -> str | None:
    certificate = transport.get_extra_info("peercert") or {}
    names = [
        value
        for part in certificate.get("subject", ())
        for key, value in part
        if key == "commonName"
    ]
    return names[0] if len(names) == 1 else None
