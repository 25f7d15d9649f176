"""`unsee status`: a service on one screen. What is shown is `status`'s business."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unsee.cli.parameters import FOLDER, json_option

if TYPE_CHECKING:
    from rich.table import Table

SHOWN_INCIDENTS = 10


@click.command()
@click.option("--url", help="Ask this gateway, such as http://127.0.0.1:9000; needs UNSEE_TOKEN.")
@click.option(
    "--repository",
    "repository_dir",
    type=FOLDER,
    help="Read this model repository, if no gateway is asked.  [default: model_repository]",
)
@json_option
def status(url: str | None, repository_dir: Path | None, as_json: bool) -> None:
    """Show server, models, active revisions, load and the last incidents on one screen.

    \b
    Example:
      UNSEE_TOKEN=… unsee status --url http://127.0.0.1:9000
      unsee status --repository model_repository
    """
    from unsee.gateway.observe.status import gateway_status, repository_status
    from unsee.repository import ledger
    from unsee.repository.layout import AUDIT_FILE, INCIDENTS_FILE

    if url is not None and repository_dir is not None:
        raise click.UsageError("give --url or --repository, not both")
    if url is not None:
        state = gateway_status(url)
    else:
        repository_dir = repository_dir or Path("model_repository")
        state = repository_status(repository_dir)
        for log in (AUDIT_FILE, INCIDENTS_FILE):
            if left_out := ledger.unreadable(repository_dir, log):
                click.echo(left_out, err=True)
    if as_json:
        click.echo(json.dumps(state, indent=2))
        return
    _show(state)


def _show(state: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console()
    if "ready" in state:
        console.print(_service(state))
        console.print(_load(state))
    console.print(_revisions(state))
    console.print(_incidents(state))


def _service(state: dict[str, Any]) -> Table:
    answering = state["models"].items()
    word = "going down" if state["draining"] else "ready" if state["ready"] else "NOT READY"
    rows = [(name, "answers" if alive else "SILENT") for name, alive in answering]
    return _table(f"service: {word}", ("model", "state"), rows)


def _load(state: dict[str, Any]) -> Table:
    rows = [
        (name, str(load["running"]), str(load["waiting"]))
        for name, load in state["tenants"].items()
    ]
    title = (
        f"load: {state['running']} of {state['max_running']} running, "
        f"{state['waiting']} of {state['max_waiting']} waiting"
    )
    return _table(title, ("tenant", "running", "waiting"), rows)


def _revisions(state: dict[str, Any]) -> Table:
    active = state["active_revisions"].items()
    rows = [(name, "-" if number is None else str(number)) for name, number in active]
    return _table("active revisions", ("policy", "revision"), rows)


def _incidents(state: dict[str, Any]) -> Table:
    rows = [(i["at"], i["what"]) for i in state["incidents"][:SHOWN_INCIDENTS]]
    return _table("last incidents", ("at", "what"), rows or [("-", "none")])


def _table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=title, title_justify="left", box=None, header_style="dim", min_width=len(title)
    )
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*map(escape, row))
    return table
