"""Which revision new requests use: promotion, and the way back.

Both look at the revision's files and, where a server is given, ask the revision itself before the
pointer moves; then new requests use it at once, and those under way keep the one they began with.
"""

from __future__ import annotations

from pathlib import Path

from unsee.core.errors import InputError, ServerError, ServerUnreachable
from unsee.core.policy import BASE_POLICY
from unsee.policies.eligibility import probe
from unsee.policies.gate import check_kept_signature, kept_report
from unsee.repository import ledger, pointer
from unsee.repository.layout import revision_dir
from unsee.repository.records import AuditEvent, Policies
from unsee.repository.revisions import check_files
from unsee.triton.server import Server


def promote(
    repository_dir: Path,
    policy: str,
    revision: int | None = None,
    *,
    default: bool = False,
    server: Server | None = None,
    verify_with: Path | None = None,
) -> Policies:
    """Make a revision the active one: the latest eligible, unless `revision` names one.

    Args:
        repository_dir: the model repository.
        policy: its name.
        revision: an eligible revision's number; None: the latest.
        default: also make the policy that of requests which name none.
        server: the Triton that must give the revision's recorded answer; None: none is probed.
        verify_with: a public key that the revision's report must be signed with; None: any report.

    Returns:
        The pointer as it is now.

    Raises:
        InputError: the policy does not exist, the revision is not eligible or its files are not
            what its records say, or the repository cannot be written.
        ServerError: the server does not answer with the revision as recorded.
    """
    chosen = pointer.promotable(pointer.read(repository_dir), policy, revision)
    check_revision(repository_dir, policy, chosen, server)
    if verify_with is not None and policy != BASE_POLICY:
        folder = revision_dir(repository_dir, policy, chosen)
        check_kept_signature(folder, kept_report(folder), verify_with)

    def point(policies: Policies) -> tuple[Policies, AuditEvent]:
        number = pointer.promotable(policies, policy, chosen)
        event = ledger.event_of(repository_dir, "promote", policy, number)
        after = policies.with_state(policy, policies.state(policy).with_active(number))
        return after.model_copy(update={"default_policy": policy} if default else {}), event

    return ledger.change(repository_dir, point)


def rollback(
    repository_dir: Path,
    policy: str,
    reason: str,
    *,
    to: int | None = None,
    server: Server | None = None,
) -> Policies:
    """Make the revision active that was active before, or the one that `to` names.

    The revision that is left stays eligible.

    Args:
        repository_dir: the model repository.
        policy: its name.
        reason: why; written into the audit log.
        to: an eligible revision's number; None: the one before.
        server: as for `promote`.

    Returns:
        The pointer as it is now.

    Raises:
        InputError: as `promote`; or there is nothing to go back to, or no reason is given.
        ServerError: as `promote`.
    """
    if not reason.strip():
        raise InputError('a rollback needs --reason "…": it is written into the audit log')
    chosen = pointer.previous(pointer.read(repository_dir), policy, to)
    check_revision(repository_dir, policy, chosen, server)

    def point(policies: Policies) -> tuple[Policies, AuditEvent]:
        if to is None and pointer.previous(policies, policy) != chosen:
            raise InputError(
                f'the policy "{policy}" was changed by somebody else just now; look at it with: '
                f"unsee history {policy}"
            )
        number = pointer.previous(policies, policy, chosen)
        left = policies.state(policy).active
        event = ledger.event_of(
            repository_dir, "rollback", policy, number, reason=reason, outcome=f"left {left}"
        )
        return policies.with_state(policy, policies.state(policy).with_rollback(number)), event

    return ledger.change(repository_dir, point)


def check_revision(repository_dir: Path, policy: str, revision: int, server: Server | None) -> None:
    """Raises unless the revision's files are whole and, given a server, it answers as recorded."""
    check_files(repository_dir, policy, revision)
    report = kept_report(revision_dir(repository_dir, policy, revision))
    ledger.check_report(repository_dir, policy, revision, report)
    if server is None:
        return
    try:
        probe(server, repository_dir, policy, revision)
    except ServerUnreachable:
        raise
    except ServerError as error:
        raise ServerError(
            f'revision {revision} of the policy "{policy}" does not answer as it should: '
            f"{error}; look for what is wrong with: unsee repair --url {server.url}"
        ) from error
