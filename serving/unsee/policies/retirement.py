"""The end of a revision: no new request uses it, and its files go into the archive.

The pointer changes first, so a revision whose folder is gone is never on offer. A request that read
the pointer before is served from the archive (`prompt_encoder` looks there), so nobody is waited
for. Each step can be the last one before the process dies; the next call goes on from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unsee.policies.lock import alone
from unsee.repository import ledger, pointer
from unsee.repository.layout import RETIRED, archive_dir, revision_dir
from unsee.repository.records import AuditEvent, Policies
from unsee.repository.revisions import put_away


@dataclass(frozen=True)
class Retirement:
    """A revision that is not served any more, and where its files are now."""

    policy: str
    revision: int
    archive: Path


def retire(
    repository_dir: Path, policy: str, revision: int, *, reason: str | None = None
) -> Retirement:
    """Take a revision that is not active out of the service.

    Retiring a retired revision does what an interrupted call has left to do.

    Args:
        repository_dir: the model repository.
        policy: its name.
        revision: a number that is not active.
        reason: why; written into the audit log.

    Raises:
        InputError: the policy or the revision does not exist, the revision is active, or the
            repository cannot be written.
    """
    pointer.retirable(pointer.read(repository_dir), policy, revision)
    version_dir = revision_dir(repository_dir, policy, revision)
    with alone(repository_dir, policy, "retire"):
        _stop_offering(repository_dir, policy, revision, reason)
        if version_dir.is_dir():
            put_away(version_dir, RETIRED)
        place = archive_dir(version_dir.parent, RETIRED) / str(revision)
        _log_the_end(repository_dir, policy, revision, place)
    return Retirement(policy, revision, place)


def retire_all_but_active(repository_dir: Path, policy: str) -> Policies:
    """Retire every eligible revision of `policy` but the active one; returns the pointer then.

    After a takedown nobody can ask for an older revision by its number. Raises as `retire`; calling
    again goes on.
    """
    state = pointer.read(repository_dir).state(policy)
    for revision in state.eligible:
        if revision != state.active:
            reason = f"revision {state.active} replaces it"
            retire(repository_dir, policy, revision, reason=reason)
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
