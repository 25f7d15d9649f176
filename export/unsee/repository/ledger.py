"""Changes of the pointer that the audit log cannot miss: the only writer of both files.

The pointer file carries the event of its last change, so the two come to the disk in one rename.
The event is appended to the log afterwards; if the process dies or the disk is full in between, the
next change, `settle` or `history` finds the event in the pointer and not in the log.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from unsee.core.errors import FileNotWritable
from unsee.repository import audit, pointer
from unsee.repository.audit import Append, AuditEvent, Log
from unsee.repository.pointer import Policies

Decide = Callable[[Policies], tuple[Policies, AuditEvent]]


def change(repository_dir: Path, decide: Decide) -> Policies:
    """Replace the pointer by what `decide` makes of it, and log the event that it gives.

    `decide` sees the pointer while nobody else may change it; if it raises, nothing changes.

    Raises:
        InputError: the repository or its pointer cannot be used.
        FileNotWritable: nothing was changed, unless the message says that it was.
    """
    pointer.read(repository_dir)  # a repository, before anything is written in it
    with audit.appending(repository_dir) as append, pointer.locked(repository_dir):
        before = pointer.read(repository_dir)
        _catch_up(repository_dir, before, append)
        after, event = decide(before)
        after = after.model_copy(update={"last_change": event})
        pointer.replace(repository_dir, after)
        _append_late(append, event)
    return after


def note(repository_dir: Path, event: AuditEvent) -> None:
    """Log an event that does not change the pointer, after whatever the log has missed.

    Raises:
        InputError, FileNotWritable: as `change`.
    """
    with audit.appending(repository_dir) as append, pointer.locked(repository_dir):
        _catch_up(repository_dir, pointer.read(repository_dir), append)
        append(event)


def settle(repository_dir: Path) -> bool:
    """Log the pointer's last change if the log has missed it; returns whether it had.

    Raises:
        InputError, FileNotWritable: as `change`.
    """
    pointer.read(repository_dir)
    with audit.appending(repository_dir) as append, pointer.locked(repository_dir):
        return _catch_up(repository_dir, pointer.read(repository_dir), append)


def has_missed(repository_dir: Path) -> bool:
    """Whether the log has missed the pointer's last change; nothing is locked or written.

    Raises:
        InputError: the repository cannot be read.
    """
    return _missed(repository_dir, pointer.read(repository_dir)) is not None


def history(repository_dir: Path) -> Log:
    """The audit log, and at its end the pointer's last change if the log has missed it.

    Raises:
        InputError: the repository cannot be read.
    """
    last = pointer.read(repository_dir).last_change
    log = audit.read(repository_dir)
    if last is None or last in log.events:
        return log
    return Log((*log.events, last), log.broken)


def event_of(
    repository_dir: Path,
    action: Literal["promote", "rollback", "retire", "reject", "repair"],
    policy: str,
    revision: int,
    *,
    reason: str | None = None,
    outcome: str = "done",
) -> AuditEvent:
    """An event about a revision, with the digests of its publication."""
    published = audit.last_publish(repository_dir, policy, revision)
    return AuditEvent(
        action=action,
        policy=policy,
        revision=revision,
        encoder_digest=published.encoder_digest if published else None,
        report_digest=published.report_digest if published else None,
        reason=reason,
        outcome=outcome,
    )


def _catch_up(repository_dir: Path, policies: Policies, append: Append) -> bool:
    missed = _missed(repository_dir, policies)
    if missed is not None:
        append(missed)
    return missed is not None


def _missed(repository_dir: Path, policies: Policies) -> AuditEvent | None:
    last = policies.last_change
    return None if last is None or last.line() in audit.lines(repository_dir) else last


def _append_late(append: Append, event: AuditEvent) -> None:
    try:
        append(event)
    except FileNotWritable as error:
        raise FileNotWritable(
            f"the change was made ({event.action} of revision {event.revision} of the policy "
            f'"{event.policy}"), but {error}; it is logged by the next change or: unsee repair'
        ) from error
