"""The end of a revision: no new request, no old one, into the archive.

Each step can be the last one before the process dies; the next call goes on from there. The pointer
changes first, so a revision whose folder is gone is never on offer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unsee.policies.lock import alone
from unsee.repository import ledger, pointer
from unsee.repository.layout import RETIRED, archive_dir, policy_model
from unsee.repository.records import AuditEvent, Policies
from unsee.repository.revisions import put_away
from unsee.triton.barrier import wait_for_earlier_requests
from unsee.triton.server import Server

Say = Callable[[str], None]


@dataclass(frozen=True)
class Retirement:
    """A revision that is not served any more, and where its files are now."""

    policy: str
    revision: int
    archive: Path


def retire(
    repository_dir: Path,
    policy: str,
    revision: int,
    server: Server,
    *,
    reason: str | None = None,
    timeout_s: float = 300.0,
    say: Say = lambda line: None,
) -> Retirement:
    """Take a revision that is not active out of the service, once nobody uses it.

    Retiring a retired revision does what an interrupted call has left to do.

    Args:
        repository_dir: the model repository.
        policy: its name.
        revision: a number that is not active.
        server: the Triton that serves it.
        reason: why; written into the audit log.
        timeout_s: how long requests that may still ask for the revision are waited for.
        say: called with a line before each stage.

    Raises:
        InputError: the policy or the revision does not exist, the revision is active, or the
            repository cannot be written.
        ServerError: the server is not there, or too busy for the wait to end; the revision is then
            not offered any more, and calling again goes on.
    """
    pointer.retirable(pointer.read(repository_dir), policy, revision)
    model_dir = repository_dir / policy_model(policy)
    with alone(repository_dir, policy, "retire"):
        server.check_live()
        _stop_offering(repository_dir, policy, revision, reason)
        version_dir = model_dir / str(revision)
        if version_dir.is_dir():
            say(f"waiting for the requests that may still use revision {revision}")
            wait_for_earlier_requests(server, repository_dir, timeout_s)
            put_away(version_dir, RETIRED)
        place = archive_dir(model_dir, RETIRED) / str(revision)
        _log_the_end(repository_dir, policy, revision, place)
    return Retirement(policy, revision, place)


def retire_all_but_active(
    repository_dir: Path, policy: str, server: Server, say: Say = lambda line: None
) -> Policies:
    """Retire every eligible revision of `policy` but the active one; returns the pointer then.

    After a takedown nobody can ask for an older revision by its number. Raises as `retire`; calling
    again goes on.
    """
    state = pointer.read(repository_dir).state(policy)
    for revision in state.eligible:
        if revision != state.active:
            reason = f"revision {state.active} replaces it"
            retire(repository_dir, policy, revision, server, reason=reason, say=say)
    return pointer.read(repository_dir)


def _stop_offering(repository_dir: Path, policy: str, revision: int, reason: str | None) -> None:
    if revision in pointer.read(repository_dir).state(policy).retired:
        return

    def withdraw(policies: Policies) -> tuple[Policies, AuditEvent]:
        number = pointer.retirable(policies, policy, revision)
        event = ledger.event_of(
            repository_dir, "retire", policy, number, reason=reason, outcome="not offered any more"
        )
        return policies.with_state(policy, policies.state(policy).with_retired(number)), event

    ledger.change(repository_dir, withdraw)


def _log_the_end(repository_dir: Path, policy: str, revision: int, place: Path) -> None:
    outcome = f"kept in {place.relative_to(repository_dir)}"
    event = ledger.event_of(repository_dir, "retire", policy, revision, outcome=outcome)
    logged = ledger.history(repository_dir).events
    if not any((e.policy, e.revision, e.outcome) == (policy, revision, outcome) for e in logged):
        ledger.note(repository_dir, event)
