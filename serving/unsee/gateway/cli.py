"""`unsee gateway`: settings in, one line out when it serves. The work is `server`'s."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unsee.cli.parameters import FILE

if TYPE_CHECKING:
    from unsee.gateway.callers.settings import Settings
    from unsee.gateway.server import Addresses


@click.group(invoke_without_command=True)
@click.option(
    "--config",
    "config_path",
    type=FILE,
    default="gateway.yaml",
    show_default=True,
    help="File of settings: tenants, their policies and their limits.",
)
@click.pass_context
def gateway(ctx: click.Context, config_path: Path) -> None:
    """Stand between callers and Triton: who may use which policy, and how much at once.

    Callers reach text_to_video only, with a policy that the settings allow them. Triton must listen
    on loopback alone. SIGTERM lets running clips finish. SIGHUP reads the tenants again, so that a
    revoked token stops working at once. The request log, one JSON object a line, goes to stderr.

    \b
    Example:
      unsee gateway token new
      unsee gateway --config gateway.yaml
    """
    if ctx.invoked_subcommand is None:
        _serve(config_path)


@gateway.group()
def token() -> None:
    """Make credentials for tenants."""


@token.command()
def new() -> None:
    """Print a fresh token once, and the hash of it that gateway.yaml holds."""
    from unsee.gateway.callers.credentials import new_token, token_sha256

    made = new_token()
    click.echo(f"token: {made}")
    click.echo(f"token_sha256: {token_sha256(made)}")
    click.echo("the token is not stored anywhere; give it to the tenant as UNSEE_TOKEN", err=True)


def _serve(config_path: Path) -> None:
    import asyncio
    import os

    # Read when gRPC is first imported, which else writes a line for every handshake that fails.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from unsee.gateway.callers.settings import load_settings
    from unsee.gateway.observe.tracing import tracer
    from unsee.gateway.server import serve

    settings = load_settings(config_path)
    _start_log()
    asyncio.run(
        serve(
            settings,
            tracer(settings.tracing),
            lambda addresses: click.echo(_ready_line(settings, addresses)),
            lambda: load_settings(config_path),
        )
    )
    click.echo("stopped")


def _start_log() -> None:
    from unsee.gateway.observe.account import log_to

    root = logging.getLogger()
    root.handlers[:] = [log_to(lambda line: click.echo(line, err=True))]
    root.setLevel(logging.WARNING)
    logging.getLogger("unsee.gateway").setLevel(logging.INFO)


def _ready_line(settings: Settings, addresses: Addresses) -> str:
    fronts = [("grpc", addresses.grpc), ("http", addresses.http)]
    listening = ", ".join(f"{name} {address}" for name, address in fronts if address)
    tenants = ", ".join(tenant.name for tenant in settings.tenants)
    page = f"; page: {_page_address(settings, addresses)}" if settings.shows_page else ""
    return f"ready: {listening}; triton: {settings.triton}; tenants: {tenants}{page}"


def _page_address(settings: Settings, addresses: Addresses) -> str:
    return f"http{'s' if settings.tls else ''}://{addresses.http}/"
