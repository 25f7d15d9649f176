"""`unsee retire`, `history` and `repair`: options in, words or JSON out.

The work is that of `retirement`, `ledger` and `recovery`.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from unsee.client.errors import ServerError
from unsee.serving.policy_cli import json_option, repository_option, url_option


@click.command()
@click.argument("policy")
@click.argument("revision", type=int)
@click.option("--reason", help="Why, for the audit log.")
@repository_option
@url_option
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, min_open=True),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for requests that may still use it.",
)
def retire(
    policy: str, revision: int, reason: str | None, repository_dir: Path, url: str, timeout_s: float
) -> None:
    """Take REVISION of POLICY out of the server; its files are kept in the repository's archive.

    The active revision cannot be retired. No request fails: the revision is not offered any more,
    then the requests that may still use it are waited for, then it is unloaded.

    \b
    Example:
      unsee retire family 1 --reason "replaced by 2"
    """
    from unsee.serving import retirement

    done = retirement.retire(
        repository_dir,
        policy,
        revision,
        url,
        reason=reason,
        timeout_s=timeout_s,
        say=lambda line: click.echo(line, err=True),
    )
    click.echo(f"{done.policy}: revision {done.revision} is retired and kept in {done.archive}")


@click.command()
@click.argument("policy", required=False)
@repository_option
@json_option
def history(policy: str | None, repository_dir: Path, as_json: bool) -> None:
    """Show who did what to the revisions of POLICY, or of all policies, on which evidence."""
    from unsee.serving import ledger, pointer
    from unsee.serving.policy_tables import history_table

    log = ledger.history(repository_dir)
    events = [event for event in log.events if policy in (None, event.policy)]
    if policy is not None and not events:
        pointer.read(repository_dir).state(policy)  # a policy, if one without events
    for number in log.broken:
        click.echo(f"line {number} of the audit log is no event and is left out", err=True)
    shown = [event.model_dump(mode="json") for event in events]
    click.echo(json.dumps(shown, indent=2) if as_json else history_table(events))


@click.command()
@repository_option
@url_option
def repair(repository_dir: Path, url: str) -> None:
    """Complete or undo what an interrupted command has left, and load again what does not answer.

    Safe at any time: what requests use is not touched, and nothing is deleted.
    """
    from unsee.serving import recovery

    result = recovery.repair(repository_dir, url)
    for sentence in result.done:
        click.echo(sentence)
    if result.remaining:
        raise ServerError("; ".join(result.remaining))
    if not result.done:
        click.echo("nothing to repair")
