"""`unsee publish`, `unsee promote` and `unsee policies`: options in, words or JSON out.

The work is that of `publish`, `promotion` and `pointer`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from unsee.serving.pointer import Policies, PolicyState

_PATH = click.Path(path_type=Path)
_repository = click.option(
    "--repository",
    "repository_dir",
    type=_PATH,
    default="model_repository",
    show_default=True,
    help="The model repository that the server serves.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.command()
@click.argument("policy_file", metavar="POLICY.yaml", type=_PATH)
@click.option("--base", "base_path", type=_PATH, required=True, help="Folder with a base.yaml.")
@_repository
@click.option("--url", default="127.0.0.1:8001", show_default=True, help="Host and gRPC port.")
@click.option(
    "--report",
    type=_PATH,
    help="What `unsee evaluate` wrote: a report.json or its folder. [default: reports/<policy>]",
)
@click.option("--force", is_flag=True, help="Publish against the report; needs --reason.")
@click.option("--reason", help="Why it is forced, for the audit log.")
@click.option("--promote", is_flag=True, help="Make the new revision the active one at once.")
@_json
def publish(
    policy_file: Path,
    base_path: Path,
    repository_dir: Path,
    url: str,
    report: Path | None,
    force: bool,
    reason: str | None,
    promote: bool,
    as_json: bool,
) -> None:
    """Build the next revision of the policy in POLICY.yaml and load it in the running server.

    The deltas of the policy are added to the base's text encoder. The report of `unsee evaluate`
    must speak of that very encoder and meet the policy's thresholds; only then it is exported,
    loaded beside the revisions that are being served, and asked once. Only a revision that answers
    as recorded becomes eligible; requests use it after it is promoted. Every publication and
    promotion is a line of audit.jsonl in the repository.

    \b
    Example:
      unsee evaluate policies/family.yaml --base bases/playground
      unsee publish policies/family.yaml --base bases/playground --promote
    """
    from unsee.serving import publish as publishing

    result = publishing.publish(
        policy_file,
        base_path,
        repository_dir,
        url,
        report=report,
        force=force,
        reason=reason,
        promote=promote,
        say=lambda line: click.echo(line, err=True),
    )
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
        click.echo(f"make it active with: unsee promote {result.policy}", err=True)


@click.command()
@click.argument("policy")
@click.option("--revision", type=int, help="Which revision. [default: the latest eligible]")
@_repository
@click.option("--default", is_flag=True, help="Also use it for requests that name no policy.")
@_json
def promote(
    policy: str, revision: int | None, repository_dir: Path, default: bool, as_json: bool
) -> None:
    """Make a revision of POLICY the active one, for the requests that start from now on.

    An older revision is promoted the same way: that is the way back.

    \b
    Example:
      unsee promote family
      unsee promote family --revision 3
    """
    from unsee.serving import promotion

    policies = promotion.promote(repository_dir, policy, revision, default=default)
    state = policies.state(policy)
    if as_json:
        click.echo(json.dumps({"policy": policy, **state.model_dump(mode="json")}, indent=2))
        return
    suffix = ", and the default" if policies.default_policy == policy else ""
    click.echo(f"{policy}: revision {state.active} is active{suffix}")


@click.command()
@_repository
@_json
def policies(repository_dir: Path, as_json: bool) -> None:
    """List the policies of a repository: active and eligible revisions, and what they unsee."""
    from unsee.serving import pointer

    known = pointer.read(repository_dir)
    click.echo(known.model_dump_json(indent=2) if as_json else _table(known, repository_dir))


def _table(known: Policies, repository_dir: Path) -> str:
    rows = [("policy", "active", "eligible", "unsees")]
    for name, state in sorted(known.policies.items()):
        label = f"{name} (default)" if name == known.default_policy else name
        eligible = ", ".join(map(str, state.eligible)) or "none"
        active = str(state.active) if state.active else "none"
        rows.append((label, active, eligible, _unseen(name, state, repository_dir)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)


def _unseen(policy: str, state: PolicyState, repository_dir: Path) -> str:
    """The concepts of the active revision, or of the latest one while none is active."""
    from unsee.serving.pointer import concept_names

    revision = state.active or max(state.eligible, default=None)
    if revision is None:
        return ""
    return ", ".join(concept_names(repository_dir, policy, revision)) or "nothing"
