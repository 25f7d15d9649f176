"""`unsee follow`: options in, a line per change out. The work is `follower`'s."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import click

from unsee.cli.parameters import ADDRESS, FOLDER, Seconds

_SECONDS = Seconds(above_zero=True)


@click.command()
@click.option(
    "--store",
    "store_dir",
    type=FOLDER,
    required=True,
    help="Model repository that all servers share.",
)
@click.option(
    "--repository",
    "repository_dir",
    type=FOLDER,
    required=True,
    help="This server's own model repository.",
)
@click.option(
    "--pointer-dir",
    type=FOLDER,
    help="Folder of the policies.json to follow, if it is not in the store.",
)
@click.option(
    "--url",
    type=ADDRESS,
    default="127.0.0.1:8001",
    show_default=True,
    help="Host and gRPC port of this server.",
)
@click.option(
    "--max-lag",
    "max_lag_s",
    type=_SECONDS,
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long an older revision may be used while a new one cannot be used.",
)
@click.option(
    "--prepare",
    is_flag=True,
    help="Only fill the repository and end; run this before Triton starts.",
)
def follow(
    store_dir: Path,
    repository_dir: Path,
    pointer_dir: Path | None,
    url: str,
    max_lag_s: float,
    prepare: bool,
) -> None:
    """Keep one of several Tritons in step with the pointer that all of them share.

    Run it beside each server. Revisions are copied from the store and probed before requests can
    find them; what the pointer withdraws is refused at once.

    \b
    Example:
      unsee follow --store /store --repository /repository --prepare
      unsee serve  --repository /repository &
      unsee follow --store /store --repository /repository
    """
    from unsee.policies.following import follower
    from unsee.triton.server import Server

    settings = follower.FollowerSettings(
        store_dir, repository_dir, pointer_dir or store_dir, Server(url), max_lag_s
    )
    if prepare:
        follower.prepare(settings, click.echo)
        return
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, frame: stop.set())
    follower.Follower(settings, click.echo).run(stop)
