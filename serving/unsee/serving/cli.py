"""`unsee serve`: options in, a line out when the server is ready and one for each incident.

The work is that of `unsee.serving.server` and `unsee.serving.supervisor`.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unsee.cli.parameters import FILE, FOLDER, Seconds, Whole
from unsee.core.errors import FileNotWritable, ServerError

if TYPE_CHECKING:
    from unsee.repository.records import Incident
    from unsee.serving.server.triton import ServerSettings, TritonServer

LOOPBACK = ("127.0.0.1", "localhost", "::1")
EXPOSED = (
    "warning: whoever reaches {host} can also call the text encoder and the denoiser and so get "
    "round every policy; listen on 127.0.0.1 and let callers in through: unsee gateway"
)

_PORT = Whole(1, 65535)


@click.command()
@click.option(
    "--repository",
    "repository_dir",
    type=FOLDER,
    default="model_repository",
    show_default=True,
    help="The model repository to serve.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--grpc-port", type=_PORT, default=8001, show_default=True, help="gRPC port, for clips."
)
@click.option(
    "--http-port", type=_PORT, default=8000, show_default=True, help="HTTP port, for health checks."
)
@click.option(
    "--metrics-port", type=_PORT, default=8002, show_default=True, help="Port of Triton's metrics."
)
@click.option(
    "--ready-timeout",
    "ready_timeout_s",
    type=Seconds(above_zero=True),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the models may take to load.",
)
@click.option(
    "--threads",
    type=Whole(1, 4096),
    help="CPU threads per graph.  [default: the number of cores]",
)
@click.option(
    "--log",
    "log_path",
    type=FILE,
    help="File for Triton's log.  [default: a file in ~/.local/state]",
)
@click.option(
    "--repair/--no-repair",
    default=True,
    show_default=True,
    help="First complete or undo what interrupted commands have left, and check the active "
    "revisions.",
)
@click.option(
    "--supervise/--no-supervise",
    default=True,
    show_default=True,
    help="Replace model processes that die or hang, and restart a server that ends.",
)
@click.option(
    "--hang-timeout",
    "hang_timeout_s",
    type=Seconds(),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Replace a model's process that neither answers nor works for this long; 0 means never.",
)
@click.option(
    "--drain-timeout",
    "drain_timeout_s",
    type=Seconds(),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long running clips may continue after the server was asked to stop.",
)
def serve(
    log_path: Path | None,
    repair: bool,
    supervise: bool,
    hang_timeout_s: float,
    drain_timeout_s: float,
    **options: Any,
) -> None:
    """Start Triton on a model repository; Ctrl-C stops it.

    Prints one line when the server is ready. Without a key, its gRPC port gives inference, its HTTP
    port health and metadata, and a third one metrics. Everything else needs the admin key, which
    lies in a file for this user alone, where the other commands find it. Triton's log goes to a
    file. After Ctrl-C or SIGTERM new requests are refused and running clips finish; a second one
    stops at once. Processes that died and were replaced are named on stderr and in incidents.jsonl
    of the repository.

    \b
    Example:
      unsee serve --repository model_repository
    """
    from unsee.serving.server.triton import ServerSettings, TritonServer

    log_path = (log_path or _default_log_path(options["grpc_port"])).absolute()
    settings = ServerSettings(log_path=log_path, **options)
    for number in (signal.SIGINT, signal.SIGTERM):  # a script's background jobs ignore SIGINT
        signal.signal(number, signal.default_int_handler)
    try:
        if repair:
            _put_in_order(settings.repository_dir)
        with TritonServer(settings) as server:
            click.echo(_ready_line(settings))
            if settings.host not in LOOPBACK:
                click.echo(EXPOSED.format(host=settings.host), err=True)
            try:
                _keep_running(server, hang_timeout_s if supervise else None)
            except KeyboardInterrupt:
                _drain(server, drain_timeout_s)
    except KeyboardInterrupt:
        pass
    click.echo("stopped")


def _put_in_order(repository_dir: Path) -> None:
    from unsee.policies.recovery import put_in_order

    put_in_order(repository_dir, lambda sentence: click.echo(sentence, err=True))


def _keep_running(server: TritonServer, hang_timeout_s: float | None) -> None:
    """Does not return; raises ServerError when the server has ended for good.

    None: it is not supervised.
    """
    if hang_timeout_s is not None:
        from unsee.serving.supervisor.supervisor import RepairLimits, Supervisor

        note = _noting(server.settings.repository_dir)
        Supervisor(server, note, RepairLimits(hang_s=hang_timeout_s)).run()
    code, log_path = server.wait(), server.settings.log_path
    raise ServerError(f"tritonserver ended by itself (exit code {code}); see {log_path}")


def _noting(repository_dir: Path) -> Callable[[Incident], None]:
    """What writes an incident to the repository, and one line to stderr in any case."""
    from unsee.repository.ledger import note_incident

    def note(incident: Incident) -> None:
        at = incident.at.isoformat(timespec="seconds")
        click.echo(f"{at} {incident.what} ({incident.seconds:.1f} s)", err=True)
        try:
            note_incident(repository_dir, incident)
        except FileNotWritable as error:
            click.echo(f"warning: {error}", err=True)

    return note


def _drain(server: TritonServer, timeout_s: float) -> None:
    from unsee.serving.supervisor.drain import drain

    if timeout_s and not drain(server, timeout_s):
        click.echo(
            f"warning: clips were still being made after {timeout_s:g} s and end with an error; "
            "--drain-timeout allows them more time",
            err=True,
        )


def _ready_line(settings: ServerSettings) -> str:
    from unsee.repository import pointer
    from unsee.triton.admin_key import key_file

    states = pointer.read(settings.repository_dir).policies
    policies = ", ".join(f"{name} (revision {state.active})" for name, state in states.items())
    ports = ", ".join(f"{name} {settings.host}:{port}" for name, port in settings.ports.items())
    return (
        f"ready: {ports}; policies: {policies}; log: {settings.log_path}; "
        f"admin key: {key_file(settings.grpc_url)}"
    )


def _default_log_path(grpc_port: int) -> Path:
    import os

    state_dir = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return state_dir / "unsee" / f"tritonserver-{grpc_port}.log"
