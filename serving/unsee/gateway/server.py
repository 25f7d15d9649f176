"""Runs a gateway: both fronts in one event loop, from the first call until a signal drains it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import resource
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.routing import Route

from unsee.core.errors import InputError, PortInUse
from unsee.gateway.behind.upstream import Upstream
from unsee.gateway.callers.settings import Settings, split_address
from unsee.gateway.core import Gateway
from unsee.gateway.fronts import grpc_front
from unsee.gateway.fronts.connection import HttpServer, http_server
from unsee.gateway.fronts.http_front import HttpFront
from unsee.gateway.fronts.static_page import page_routes
from unsee.gateway.observe.tracing import Tracer
from unsee.gateway.openai.videos import Videos
from unsee.gateway.openai.videos_front import VideosFront

LOGGER = logging.getLogger("unsee.gateway")
POLL_S = 0.02


@dataclass(frozen=True)
class Addresses:
    """Where the fronts listen (host and port); None for a front that is off."""

    grpc: str | None
    http: str | None


async def serve(
    settings: Settings,
    tracer: Tracer,
    on_ready: Callable[[Addresses], None],
    read_again: Callable[[], Settings] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then let what runs finish within the drain time.

    SIGHUP takes the tenants, with their tokens and certificate names, from `read_again()`; all
    else keeps the settings it was started with. If they cannot be read, the old tenants stay.

    Raises:
        PortInUse: an address is taken.
    """
    _allow_many_files()
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with running(settings, tracer) as (gateway, addresses):
        if read_again is not None:
            loop.add_signal_handler(signal.SIGHUP, _renew_tenants, gateway, read_again)
        on_ready(addresses)
        await stopped.wait()


def _renew_tenants(gateway: Gateway, read_again: Callable[[], Settings]) -> None:
    try:
        gateway.use_tenants(read_again())
    except InputError as error:
        LOGGER.error("the tenants stay as they were: %s", error)
    else:
        names = ", ".join(tenant.name for tenant in gateway.settings.tenants)
        LOGGER.info("the tenants were read again: %s", names)


@asynccontextmanager
async def running(settings: Settings, tracer: Tracer) -> AsyncIterator[tuple[Gateway, Addresses]]:
    """A gateway that serves inside the block and drains at its end."""
    upstream = Upstream(settings.triton)
    gateway = Gateway(settings, upstream, tracer)
    fronts = _Fronts(gateway)
    try:
        addresses = await fronts.start()
        try:
            yield gateway, addresses
        finally:
            gateway.close()
            await fronts.drain()
    finally:
        await upstream.close()


class _Fronts:
    """The servers of both fronts, of which one may be off."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._settings = gateway.settings
        self._grpc: Any = None
        self._http: HttpServer | None = None
        self._http_task: asyncio.Task[None] | None = None
        self._videos = Videos(gateway)

    async def start(self) -> Addresses:
        settings = self._settings
        http = None if settings.http is None else await self._start_http(settings.http)
        grpc = None if settings.grpc is None else await self._start_grpc(settings.grpc)
        return Addresses(grpc, http)

    async def drain(self) -> None:
        drain_s = self._settings.limits.drain_timeout_s
        await self._videos.close()
        if self._http is not None:
            self._http.should_exit = True
        if self._grpc is not None:
            await self._grpc.stop(drain_s)
        if self._http_task is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._http_task

    async def _start_http(self, address: str) -> str:
        listening = _listen(address)
        app = HttpFront(self._gateway).app(self._more_routes())
        turned_away = functools.partial(self._gateway.ledger.turned_away, "http")
        self._http = server = http_server(
            app, self._settings.limits, self._settings.tls, turned_away
        )
        self._http_task = asyncio.create_task(server.serve([listening]))
        while not server.started and not self._http_task.done():
            await asyncio.sleep(POLL_S)
        if self._http_task.done():
            self._http_task.result()
        host, _ = split_address(address)
        return f"{host}:{listening.getsockname()[1]}"

    def _more_routes(self) -> list[Route]:
        routes = page_routes() if self._settings.shows_page else []
        if self._settings.openai_videos:
            routes += VideosFront(self._gateway, self._videos).routes()
        return routes

    async def _start_grpc(self, address: str) -> str:
        self._grpc = server = grpc_front.grpc_server(self._gateway)
        try:
            port = grpc_front.bind(server, self._settings, address)
        except RuntimeError as error:
            raise _taken(address) from error
        await server.start()
        return f"{split_address(address)[0]}:{port}"


def _allow_many_files() -> None:
    """Every connection is an open file: as many as this process may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _listen(address: str) -> socket.socket:
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise _taken(address) from error


def _taken(address: str) -> PortInUse:
    return PortInUse(f"cannot listen on {address}; give another address in the gateway's settings")
