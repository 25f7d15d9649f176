"""`unsee publish`, `promote`, `rollback` and `policies`: options in, words or JSON out.

The work is that of `publish`, `promotion` and `pointer`; the tables are `tables`'s. What
takes revisions away or looks back is in `revision_cli`.
"""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from unsee.cli.parameters import (
    ADDRESS,
    FILE,
    FOLDER,
    PATH,
    POLICY,
    REVISION,
    base_option,
    json_option,
    url_option,
)
from unsee.cli.progress import shown_stages
from unsee.cli.subcommands import did_you_mean
from unsee.core.errors import InputError

if TYPE_CHECKING:
    from unsee.repository.records import Policies
    from unsee.triton.server import Server

repository_option = click.option(
    "--repository",
    "repository_dir",
    type=FOLDER,
    default="model_repository",
    show_default=True,
    help="The model repository that the server serves.",
)
_asked_url = click.option(
    "--url",
    type=ADDRESS,
    help="First check that the server at this host and gRPC port answers with the revision.",
)


@click.command()
@click.argument("policy_file", metavar="POLICY.yaml", type=FILE)
@base_option
@repository_option
@url_option
@click.option(
    "--report",
    type=PATH,
    help="Report of `unsee evaluate`: report.json or its folder.  [default: reports/<policy>]",
)
@click.option(
    "--force",
    is_flag=True,
    help="Publish even if the report is missing or too weak; needs --reason.",
)
@click.option("--reason", help="Why --force is used; written to the audit log.")
@click.option("--promote", is_flag=True, help="Make the new revision the active one at once.")
@click.option(
    "--verify-with",
    type=FILE,
    envvar="UNSEE_VERIFY_WITH",
    metavar="PUBLIC.pem",
    help="Check the signatures of deltas and report with this public key (or UNSEE_VERIFY_WITH).",
)
@click.option(
    "--require-signed",
    is_flag=True,
    envvar="UNSEE_REQUIRE_SIGNED",
    help="Refuse deltas and reports without a signature (or UNSEE_REQUIRE_SIGNED=1).",
)
@json_option
def publish(
    policy_file: Path,
    base_path: Path,
    repository_dir: Path,
    url: str,
    report: Path | None,
    force: bool,
    reason: str | None,
    promote: bool,
    verify_with: Path | None,
    require_signed: bool,
    as_json: bool,
) -> None:
    """Build the next revision of the policy in POLICY.yaml and try it in the running server.

    The policy's deltas are composed. If the report of `unsee evaluate` is about the text encoder
    that they give and meets the policy's thresholds, what they make of the encoder's states is
    exported beside the revisions that are being served. If the server then gives the recorded
    answer, the revision is eligible; requests use it after it is promoted. Every publication and
    promotion is a line of audit.jsonl in the repository.

    \b
    Example:
      unsee evaluate policies/family.yaml --base bases/playground
      unsee publish policies/family.yaml --base bases/playground --promote
    """
    from unsee.policies import publish as publishing
    from unsee.triton.server import Server

    wanted = publishing.Publication(
        policy_file,
        base_path,
        repository_dir,
        report=report,
        force=force,
        reason=reason,
        promote=promote,
        verify_with=verify_with,
        require_signed=require_signed,
    )
    with shown_stages() as say:
        result = publishing.publish(wanted, Server(url), say)
    for sentence in result.unmet:
        click.echo(f"forced although {sentence}", err=True)
    if as_json:
        click.echo(result.as_json())
        return
    click.echo(
        f"{result.policy}: revision {result.revision} is "
        f"{'active' if result.active else 'eligible'} ({result.seconds:.1f} s)"
    )
    if not result.active:
        where = quote(str(repository_dir))
        click.echo(
            f"make it active with: unsee promote {result.policy} --repository {where}", err=True
        )


@click.command()
@click.argument("policy", type=POLICY)
@click.option(
    "--revision", type=REVISION, help="Revision to promote.  [default: the latest eligible one]"
)
@repository_option
@click.option("--default", is_flag=True, help="Also use this policy for requests that name none.")
@click.option(
    "--retire-older",
    is_flag=True,
    help="Then retire every other eligible revision, so that nobody can pin one.",
)
@click.option(
    "--verify-with",
    type=FILE,
    envvar="UNSEE_VERIFY_WITH",
    metavar="PUBLIC.pem",
    help="Refuse a revision whose report is not signed with this key (or UNSEE_VERIFY_WITH).",
)
@_asked_url
@json_option
def promote(
    policy: str,
    revision: int | None,
    repository_dir: Path,
    default: bool,
    retire_older: bool,
    verify_with: Path | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Make a revision of POLICY the active one, for the requests that start from now on.

    Requests under way end with the revision that they began with. A revision whose files differ
    from its records is refused; with --url, so is one that does not give its recorded answer.

    \b
    Example:
      unsee promote family
      unsee promote family --revision 3 --url 127.0.0.1:8001
      unsee promote family --retire-older
    """
    from unsee.policies import promotion, retirement

    check_policy(repository_dir, policy)
    policies = promotion.promote(
        repository_dir,
        policy,
        revision,
        default=default,
        server=_server(url),
        verify_with=verify_with,
    )
    if retire_older:
        policies = retirement.retire_all_but_active(repository_dir, policy)
    _show_active(policies, policy, as_json)


@click.command()
@click.argument("policy", type=POLICY)
@click.option(
    "--to", type=REVISION, help="Revision to go back to.  [default: the one that was active before]"
)
@click.option("--reason", required=True, help="Why you roll back; written to the audit log.")
@repository_option
@_asked_url
@json_option
def rollback(
    policy: str,
    to: int | None,
    reason: str,
    repository_dir: Path,
    url: str | None,
    as_json: bool,
) -> None:
    """Make the revision of POLICY that was active before active again.

    The revision that is left stays eligible. Only `unsee promote --revision` makes it active again;
    a second rollback does not.

    \b
    Example:
      unsee rollback family --reason "siblings look worse"
    """
    from unsee.policies import promotion

    check_policy(repository_dir, policy)
    policies = promotion.rollback(repository_dir, policy, reason, to=to, server=_server(url))
    _show_active(policies, policy, as_json)


@click.command()
@repository_option
@json_option
def policies(repository_dir: Path, as_json: bool) -> None:
    """List the policies of a repository: their revisions, the active one's verdict and concepts.

    \b
    Example:
      unsee policies --repository model_repository
    """
    from unsee.policies.tables import policies_table
    from unsee.repository import pointer

    known = pointer.read(repository_dir)
    click.echo(
        known.model_dump_json(indent=2) if as_json else policies_table(known, repository_dir)
    )


def check_policy(repository_dir: Path, policy: str) -> None:
    """Raises InputError unless the repository has the policy; it names the nearest."""
    from unsee.repository import pointer

    known = pointer.read(repository_dir)
    try:
        known.state(policy)
    except InputError as error:
        raise InputError(f"{error}{did_you_mean(policy, known.policies)}") from error


def _server(url: str | None) -> Server | None:
    from unsee.triton.server import Server

    return Server(url) if url is not None else None


def _show_active(policies: Policies, policy: str, as_json: bool) -> None:
    state = policies.state(policy)
    if as_json:
        click.echo(json.dumps({"policy": policy, **state.model_dump(mode="json")}, indent=2))
        return
    suffix = ", and the default" if policies.default_policy == policy else ""
    click.echo(f"{policy}: revision {state.active} is active{suffix}")
