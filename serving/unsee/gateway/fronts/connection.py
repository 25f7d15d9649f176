"""The HTTP connections of the gateway: uvicorn's, with a bound on slow headers and client names.

uvicorn bounds the time between requests but not the time that the head of one may take, and does
not tell an application whose certificate a connection has shown.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from unsee.gateway.callers.settings import Limits, Tls
from unsee.gateway.fronts.http_exchange import BREAK_OFF, CERTIFICATE_NAME

MAX_HEAD_BYTES = 16 * 1024


class HttpServer(uvicorn.Server):
    """uvicorn without signal handlers of its own: the gateway has one way to stop."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Leave the signals alone."""
        return nullcontext()


def http_server(app: ASGIApp, limits: Limits, tls: Tls | None) -> HttpServer:
    """A server of `app`; it logs nothing of its own and serves the sockets it is given."""
    config = uvicorn.Config(
        app,
        http=_protocol(limits.read_timeout_s),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=limits.max_connections,
        timeout_graceful_shutdown=max(1, round(limits.drain_timeout_s)),
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        **_tls_options(tls),
    )
    return HttpServer(config)


def _tls_options(tls: Tls | None) -> dict[str, Any]:
    if tls is None:
        return {}
    options: dict[str, Any] = {
        "ssl_certfile": str(tls.certificate),
        "ssl_keyfile": str(tls.key),
    }
    if tls.client_ca is not None:
        options |= {"ssl_ca_certs": str(tls.client_ca), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    return options


def _protocol(head_timeout_s: float) -> type[H11Protocol]:
    class GuardedConnection(H11Protocol):
        """Closes itself when the head of a request takes longer than `head_timeout_s`."""

        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.app = _introduced(self.app, transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_watching()
            super().connection_lost(exc)

        def _watch(self) -> None:
            if self.conn.their_state is not h11.IDLE:
                self._stop_watching()
            elif self._timer is None:
                self._timer = self.loop.call_later(head_timeout_s, self._too_slow)

        def _stop_watching(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _too_slow(self) -> None:
            if self.conn.their_state is h11.IDLE:
                self.transport.close()

    return GuardedConnection


def _introduced(app: Any, transport: asyncio.Transport) -> Any:
    """`app`, told whose connection it is and how to break it off."""
    name = _common_name(transport)

    async def introduced(scope: Scope, receive: Receive, send: Send) -> None:
        scope[CERTIFICATE_NAME] = name
        scope[BREAK_OFF] = transport.abort
        await app(scope, receive, send)

    return introduced


def _common_name(transport: asyncio.Transport) -> str | None:
    """The one common name of the verified client certificate; None without one."""
    certificate = transport.get_extra_info("peercert") or {}
    names = [
        value
        for part in certificate.get("subject", ())
        for key, value in part
        if key == "commonName"
    ]
    return names[0] if len(names) == 1 else None
