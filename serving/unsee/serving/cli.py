"""`unsee serve`: options in, one line out when the server is ready. The work is `triton`'s."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unsee.client.errors import ServerError

if TYPE_CHECKING:
    from unsee.serving.triton import ServerSettings

LOOPBACK = ("127.0.0.1", "localhost", "::1")
EXPOSED = (
    "warning: whoever reaches {host} can also call the encoders, the UNet and the repository API "
    "and so get round every policy; put a gateway before it that passes text_to_video only"
)

_PATH = click.Path(path_type=Path)
_PORT = click.IntRange(1, 65535)


@click.command()
@click.option(
    "--repository",
    "repository_dir",
    type=_PATH,
    default="model_repository",
    show_default=True,
    help="The model repository to serve.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--grpc-port", type=_PORT, default=8001, show_default=True)
@click.option("--http-port", type=_PORT, default=8000, show_default=True)
@click.option("--metrics-port", type=_PORT, default=8002, show_default=True)
@click.option(
    "--ready-timeout",
    "ready_timeout_s",
    type=click.FloatRange(0, min_open=True),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the models may take to load.",
)
@click.option("--threads", type=click.IntRange(1), help="CPU threads per graph.  [default: cores]")
@click.option("--log", "log_path", type=_PATH, help="Triton's log.  [default: in ~/.local/state]")
def serve(log_path: Path | None, **options: Any) -> None:
    """Start Triton on a model repository; Ctrl-C stops it.

    Prints one line when the server is ready. Triton's own log goes to a file.

    \b
    Example:
      unsee serve --repository model_repository
    """
    from unsee.serving.triton import ServerSettings, TritonServer

    log_path = (log_path or _default_log_path(options["grpc_port"])).absolute()
    settings = ServerSettings(log_path=log_path, **options)
    for number in (signal.SIGINT, signal.SIGTERM):  # a script's background jobs ignore SIGINT
        signal.signal(number, signal.default_int_handler)
    try:
        with TritonServer(settings) as server:
            click.echo(_ready_line(settings))
            if settings.host not in LOOPBACK:
                click.echo(EXPOSED.format(host=settings.host), err=True)
            code = server.wait()
            raise ServerError(f"tritonserver ended by itself (exit code {code}); see {log_path}")
    except KeyboardInterrupt:
        click.echo("stopped")


def _ready_line(settings: ServerSettings) -> str:
    from unsee.serving import pointer

    states = pointer.read(settings.repository_dir).policies
    policies = ", ".join(f"{name} (revision {state.active})" for name, state in states.items())
    ports = ", ".join(f"{name} {settings.host}:{port}" for name, port in settings.ports.items())
    return f"ready: {ports}; policies: {policies}; log: {settings.log_path}"


def _default_log_path(grpc_port: int) -> Path:
    import os

    state_dir = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return state_dir / "unsee" / f"tritonserver-{grpc_port}.log"
