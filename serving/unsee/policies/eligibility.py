"""When a revision may be promoted: after the server has given the answer recorded at its export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from unsee.core.errors import ServerError
from unsee.repository import ledger, pointer
from unsee.repository.layout import REJECTED, revision_dir
from unsee.repository.records import AuditEvent, Policies, PolicyState
from unsee.repository.revisions import golden, put_away
from unsee.triton.server import Server

Say = Callable[[str], None]

PROBE_TOLERANCE = 1e-3
"""Largest difference allowed between served and recorded embeddings, relative to the largest."""


def probe(server: Server, repository_dir: Path, policy: str, revision: int) -> float:
    """Ask the server for what was recorded at the revision's export; returns the relative error.

    Raises:
        ServerError: it does not answer, or its answer differs by more than `PROBE_TOLERANCE`.
        RevisionUnfit: the recorded answer is missing.
    """
    recorded = golden(revision_dir(repository_dir, policy, revision))
    error = server.probe(policy, revision, recorded)
    if not error <= PROBE_TOLERANCE:
        raise ServerError(
            f"its answer differs from the recorded one by {error:.2g} of the largest value, "
            f"and {PROBE_TOLERANCE:g} is allowed"
        )
    return error


def make_eligible(
    server: Server, repository_dir: Path, published: AuditEvent, say: Say = lambda line: None
) -> float:
    """Probe a revision that has been written and make it eligible; call it in `alone`.

    Args:
        published: the event of its publication, which is logged.

    Returns:
        The error of the probe, relative to the largest recorded value.

    Raises:
        ServerError: it did not pass its probe; unless it was eligible before, it was taken back.
    """
    policy, revision = published.policy, published.revision
    known = pointer.read(repository_dir).policies.get(policy, PolicyState())
    say(f"probing revision {revision} of the policy {policy} by inference")
    try:
        error = probe(server, repository_dir, policy, revision)
    except ServerError as cause:
        if revision in known.eligible:  # it may be in use: leave it
            raise
        raise _taken_back(repository_dir, policy, revision, cause) from cause

    def mark(policies: Policies) -> tuple[Policies, AuditEvent]:
        state = policies.policies.get(policy, PolicyState())
        return policies.with_state(policy, state.with_eligible(revision)), published

    ledger.change(repository_dir, mark)
    return error


def _taken_back(
    repository_dir: Path, policy: str, revision: int, cause: ServerError
) -> ServerError:
    """Put the revision among the rejected ones; its number is not given again."""
    event = ledger.event_of(
        repository_dir, "reject", policy, revision, reason=str(cause), outcome="taken back"
    )
    ledger.note(repository_dir, event)
    put_away(revision_dir(repository_dir, policy, revision), REJECTED)
    return ServerError(
        f'revision {revision} of the policy "{policy}" was taken back: {cause}; '
        "nothing else changed on the server"
    )
