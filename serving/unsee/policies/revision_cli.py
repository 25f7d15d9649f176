"""`unsee retire`, `history` and `repair`: options in, words or JSON out.

The work is that of `retirement`, `ledger` and `recovery`.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from unsee.cli.parameters import POLICY, REVISION, json_option, url_option
from unsee.core.errors import ServerError
from unsee.policies.cli import check_policy, repository_option


@click.command()
@click.argument("policy", type=POLICY)
@click.argument("revision", type=REVISION)
@click.option("--reason", help="Why you retire it; written to the audit log.")
@repository_option
@json_option
def retire(
    policy: str, revision: int, reason: str | None, repository_dir: Path, as_json: bool
) -> None:
    """Take REVISION of POLICY out of the service; its files are kept in the repository's archive.

    The active revision cannot be retired. No request fails: new requests cannot use the revision
    any more, and those under way end with it.

    \b
    Example:
      unsee retire family 1 --reason "replaced by 2"
    """
    from unsee.policies import retirement

    check_policy(repository_dir, policy)
    done = retirement.retire(repository_dir, policy, revision, reason=reason)
    if as_json:
        shown = {"policy": done.policy, "revision": done.revision, "archive": str(done.archive)}
        click.echo(json.dumps(shown, indent=2))
        return
    click.echo(f"{done.policy}: revision {done.revision} is retired and kept in {done.archive}")


@click.command()
@click.argument("policy", type=POLICY, required=False)
@repository_option
@json_option
def history(policy: str | None, repository_dir: Path, as_json: bool) -> None:
    """Show who did what to the revisions of POLICY, or of all policies, on which evidence.

    \b
    Example:
      unsee history family
    """
    from unsee.policies.tables import history_table
    from unsee.repository import ledger
    from unsee.repository.layout import AUDIT_FILE

    log = ledger.history(repository_dir)
    events = [event for event in log.events if policy in (None, event.policy)]
    if policy is not None and not events:
        check_policy(repository_dir, policy)  # a policy, if one without events
    if left_out := ledger.unreadable(repository_dir, AUDIT_FILE):
        click.echo(left_out, err=True)
    shown = [event.model_dump(mode="json") for event in events]
    click.echo(json.dumps(shown, indent=2) if as_json else history_table(events))


@click.command()
@repository_option
@url_option
@json_option
def repair(repository_dir: Path, url: str, as_json: bool) -> None:
    """Complete or undo what an interrupted command has left, and ask for every revision's answer.

    Safe at any time: what requests use is not touched, and nothing is deleted. If the process that
    hosts the policies is dead, it is replaced.

    \b
    Example:
      unsee repair --repository model_repository
    """
    from unsee.policies import recovery
    from unsee.triton.server import Server

    result = recovery.repair(repository_dir, Server(url))
    if as_json:
        shown = {"done": list(result.done), "remaining": list(result.remaining)}
        click.echo(json.dumps(shown, indent=2))
    else:
        for sentence in result.done:
            click.echo(sentence)
    if result.remaining:
        raise ServerError("; ".join(result.remaining))
    if not result.done and not as_json:
        click.echo("nothing to repair")
