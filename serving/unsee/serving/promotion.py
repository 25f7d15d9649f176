"""Promotion with a memory: the pointer is changed, and the audit log says who did it.

Knows neither the gate (a revision is eligible only after it) nor the server.
"""

from __future__ import annotations

from pathlib import Path

from unsee.serving import audit, pointer
from unsee.serving.audit import AuditEvent
from unsee.serving.pointer import Policies


def promote(
    repository_dir: Path, policy: str, revision: int | None = None, *, default: bool = False
) -> Policies:
    """`pointer.promote`, written into the audit log with the digests of the publication.

    Raises:
        InputError: the policy does not exist, the revision is not eligible, or the log cannot be
            written; the pointer is then as it was.
    """
    pointer.read(repository_dir).state(policy)  # a repository, before anything is written in it
    with audit.appending(repository_dir) as append:
        policies = pointer.promote(repository_dir, policy, revision, default=default)
        active = policies.state(policy).active or 1  # never None after a promotion
        published = audit.last_publish(repository_dir, policy, active)
        append(
            AuditEvent(
                action="promote",
                policy=policy,
                revision=active,
                encoder_digest=published.encoder_digest if published else None,
                report_digest=published.report_digest if published else None,
            )
        )
    return policies
