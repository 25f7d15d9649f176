"""The pointer file and the logs of a repository: the only writer of all of them.

The pointer carries the event of its last change, so the two come to the disk in one rename. The
event is appended to `audit.jsonl` afterwards; if the process dies or the disk is full in between,
the next change, `settle` or `history` finds the event in the pointer and not in the log. A log has
one JSON object per line and is only ever appended to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import ValidationError

from unsee.core.errors import FileNotWritable, InputError, RevisionUnfit
from unsee.core.files import appending, digest_of, lock, write_json
from unsee.core.validation import ClosedModel
from unsee.repository import pointer
from unsee.repository.layout import (
    AUDIT_FILE,
    INCIDENTS_FILE,
    POINTER_FILE,
    POINTER_LOCK_FILE,
    REPORT_FILE,
    REPORT_PAGE_FILE,
)
from unsee.repository.records import AuditEvent, Incident, Policies

Decide = Callable[[Policies], tuple[Policies, AuditEvent]]
Append = Callable[[bytes], None]
Record = TypeVar("Record", bound=ClosedModel)
MAX_READ_BYTES = 256 * 1024
"""How much of the incidents is read; a line has about 300 bytes."""


@dataclass(frozen=True)
class Log:
    """What a log holds: its events, oldest first, and the numbers of its lines that are none."""

    events: tuple[AuditEvent, ...]
    broken: tuple[int, ...] = ()


def change(repository_dir: Path, decide: Decide) -> Policies:
    """Replace the pointer by what `decide` makes of it, and log the event that it gives.

    `decide` sees the pointer while nobody else may change it; if it raises, nothing changes.

    Raises:
        InputError: the repository or its pointer cannot be used.
        FileNotWritable: nothing was changed, unless the message says that it was.
    """
    with _writing(repository_dir) as (before, append, _):
        after, event = decide(before)
        after = after.model_copy(update={"last_change": event})
        replace_pointer(repository_dir, after)
        try:
            append(_line(event))
        except FileNotWritable as error:
            raise FileNotWritable(
                f"the change was made ({event.action} of revision {event.revision} of the policy "
                f'"{event.policy}"), but {error}; it is logged by the next change or: unsee repair'
            ) from error
    return after


def note(repository_dir: Path, event: AuditEvent) -> None:
    """Log an event that does not change the pointer, after whatever the log has missed.

    Raises:
        InputError, FileNotWritable: as `change`.
    """
    with _writing(repository_dir) as (_, append, _):
        append(_line(event))


def settle(repository_dir: Path) -> bool:
    """Log the pointer's last change if the log has missed it; returns whether it had.

    Raises:
        InputError, FileNotWritable: as `change`.
    """
    with _writing(repository_dir) as (_, _, missed):
        return missed


def has_missed(repository_dir: Path) -> bool:
    """Whether the log has missed the pointer's last change; nothing is locked or written.

    Raises:
        InputError: the repository cannot be read.
    """
    return _missed(repository_dir, pointer.read(repository_dir)) is not None


def replace_pointer(repository_dir: Path, policies: Policies) -> None:
    """Write the pointer file, which readers see as it was or as it will be.

    Only for the pointer that one process alone writes, a replica's own; else see `change`.

    Raises:
        FileNotWritable: it could not be written; the file is as it was.
    """
    try:
        write_json(repository_dir / POINTER_FILE, policies)
    except FileNotWritable as error:
        raise FileNotWritable(f"{error}; it is as it was") from error


def history(repository_dir: Path) -> Log:
    """The audit log, and at its end the pointer's last change if the log has missed it.

    Raises:
        InputError: the repository cannot be read.
    """
    last = pointer.read(repository_dir).last_change
    log = read_log(repository_dir)
    if last is None or last in log.events:
        return log
    return Log((*log.events, last), log.broken)


def read_log(repository_dir: Path) -> Log:
    """The audit log as it is; empty if nothing was ever written.

    Raises:
        InputError: it cannot be read.
    """
    return Log(*_records(AuditEvent, _lines(repository_dir / AUDIT_FILE)))


def unreadable(repository_dir: Path, log: str) -> str | None:
    """A sentence about the lines of `log` (AUDIT_FILE or INCIDENTS_FILE) that cannot be read; None
    if all can.

    Raises:
        InputError: the file cannot be read.
    """
    file = repository_dir / log
    _, broken = _records(AuditEvent if log == AUDIT_FILE else Incident, _lines(file))
    if not broken:
        return None
    if len(broken) == 1:
        return f"line {broken[0]} of {file} cannot be read and is left out"
    return f"{len(broken)} lines of {file} cannot be read and are left out, first line {broken[0]}"


def last_publish(repository_dir: Path, policy: str, revision: int) -> AuditEvent | None:
    """The latest publication of a revision; None if the log does not know it.

    Broken lines are passed over: they must not stand in the way of a rollback. Raises InputError
    if the log cannot be read.
    """
    for line in reversed(_lines(repository_dir / AUDIT_FILE)):
        with suppress(ValidationError):
            event = AuditEvent.model_validate_json(line)
            if (event.action, event.policy, event.revision) == ("publish", policy, revision):
                return event
    return None


def check_report(
    repository_dir: Path, policy: str, revision: int, files: Mapping[Path, bytes]
) -> None:
    """Raise unless the report beside a revision is the one with which it was published.

    A log that knows no publication of the revision, or a revision without a report, says nothing.

    Args:
        files: what was read of the report: only that has been looked at.

    Raises:
        RevisionUnfit: report.json or report.html has another digest than the log; it is named.
        InputError: the log cannot be read.
    """
    published = [
        event
        for event in read_log(repository_dir).events
        if (event.action, event.policy, event.revision) == ("publish", policy, revision)
    ]
    known = {
        REPORT_FILE: {event.report_digest for event in published} - {None},
        REPORT_PAGE_FILE: {event.page_digest for event in published} - {None},
    }
    for file, content in files.items():
        digests = known.get(file.name)
        if digests and digest_of(content) not in digests:
            raise RevisionUnfit(
                f"{file} is not the one that the audit log has for the publication of this "
                "revision: it was changed; put the published file back, or publish the policy again"
            )


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
    published = last_publish(repository_dir, policy, revision)
    return AuditEvent(
        action=action,
        policy=policy,
        revision=revision,
        encoder_digest=published.encoder_digest if published else None,
        report_digest=published.report_digest if published else None,
        reason=reason,
        outcome=outcome,
    )


def note_incident(repository_dir: Path, incident: Incident) -> None:
    """Append to `incidents.jsonl`.

    Raises:
        FileNotWritable: it could not be written and is as it was.
    """
    with appending(repository_dir / INCIDENTS_FILE) as append:
        append(_line(incident))


def last_incidents(repository_dir: Path, count: int) -> list[Incident]:
    """The last incidents of a repository, newest first; lines that are none are passed over.

    Raises:
        InputError: the file cannot be read.
    """
    found, _ = _records(Incident, _lines(repository_dir / INCIDENTS_FILE, MAX_READ_BYTES))
    return list(reversed(found))[:count]


@contextmanager
def _writing(repository_dir: Path) -> Iterator[tuple[Policies, Append, bool]]:
    """Be the only writer of pointer and log in the block, with nothing missing in the log.

    Yields the pointer, the function that appends a line to the log, and whether the log had missed
    a change. So what is done and what the log says come in the same order, and a log that cannot be
    opened is found out before anything is done.
    """
    pointer.read(repository_dir)  # a repository, before anything is written in it
    with (
        appending(repository_dir / AUDIT_FILE) as append,
        lock(repository_dir / POINTER_LOCK_FILE),
    ):
        policies = pointer.read(repository_dir)
        missed = _missed(repository_dir, policies)
        if missed is not None:
            append(_line(missed))
        yield policies, append, missed is not None


def _missed(repository_dir: Path, policies: Policies) -> AuditEvent | None:
    last = policies.last_change
    if last is None or _line(last) in _lines(repository_dir / AUDIT_FILE):
        return None
    return None if last in read_log(repository_dir).events else last


def _records(kind: type[Record], lines: list[bytes]) -> tuple[tuple[Record, ...], tuple[int, ...]]:
    """The lines as records, and the numbers of those that are none."""
    found, broken = [], []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(kind.model_validate_json(line))
        except ValidationError:
            broken.append(number)
    return tuple(found), tuple(broken)


def _line(record: ClosedModel) -> bytes:
    return record.model_dump_json().encode()


def _lines(file: Path, last_bytes: int | None = None) -> list[bytes]:
    """The lines of a file as they are, or of its last bytes; none if there is no file."""
    try:
        with file.open("rb") as stream:
            if last_bytes is not None:
                stream.seek(max(0, file.stat().st_size - last_bytes))
            return stream.read().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
