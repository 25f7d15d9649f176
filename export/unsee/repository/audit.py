"""`audit.jsonl`: who did what to which revision, on which evidence, and what was forced.

One JSON object per line, only ever appended. Knows neither reports nor the pointer: it writes down
what it is told. The file lies in the model repository, beside the pointer that the events changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unsee.core import files
from unsee.core.errors import InputError
from unsee.core.files import user_at_host

AUDIT_FILE = "audit.jsonl"


class AuditEvent(BaseModel):
    """One line of the log.

    Args:
        encoder_digest: `tensors_digest` of the encoder; None where the log does not know it.
        report_digest: of the bytes of the report.json that was judged; None if there was none.
        forced: whether the gate was overridden.
        reason: why, in the words of `who`, or of the command that had to act.
        unmet: what the gate found missing, one sentence each.
        outcome: what came of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    who: str = Field(default_factory=user_at_host)
    action: Literal["publish", "promote", "rollback", "retire", "reject", "repair"]
    policy: str
    revision: Annotated[int, Field(ge=1)]
    encoder_digest: str | None
    report_digest: str | None
    forced: bool = False
    reason: str | None = None
    unmet: tuple[str, ...] = ()
    outcome: str = "done"

    def line(self) -> bytes:
        """The event as the log has it, without the line's end."""
        return self.model_dump_json().encode()


@dataclass(frozen=True)
class Log:
    """What a log holds: its events, oldest first, and the numbers of its lines that are none."""

    events: tuple[AuditEvent, ...]
    broken: tuple[int, ...] = ()


Append = Callable[[AuditEvent], None]


@contextmanager
def appending(repository_dir: Path) -> Iterator[Append]:
    """Hold the log open for writing, alone, and yield the function that appends an event to it.

    What the block does and what the log says thus come in the same order, and a log that cannot be
    opened is found out before anything is done. An event is on the disk when the call returns.

    Raises:
        FileNotWritable: the log cannot be opened, or, from the function, not be written; it is
            then as it was.
    """
    with files.appending(repository_dir / AUDIT_FILE) as append:
        yield lambda event: append(event.line())


def read(repository_dir: Path) -> Log:
    """The log of a repository; empty if nothing was ever written.

    Raises:
        InputError: the log cannot be read.
    """
    events, broken = [], []
    for number, line in enumerate(lines(repository_dir), start=1):
        try:
            events.append(AuditEvent.model_validate_json(line))
        except ValidationError:
            broken.append(number)
    return Log(tuple(events), tuple(broken))


def last_publish(repository_dir: Path, policy: str, revision: int) -> AuditEvent | None:
    """The latest publication of a revision; None if the log does not know it.

    Broken lines are passed over: they must not stand in the way of a rollback.
    """
    for line in reversed(lines(repository_dir)):
        with suppress(ValidationError):
            event = AuditEvent.model_validate_json(line)
            if (event.action, event.policy, event.revision) == ("publish", policy, revision):
                return event
    return None


def lines(repository_dir: Path) -> list[bytes]:
    """The log's lines as they are; none if there is no log.

    Raises:
        InputError: the log cannot be read.
    """
    file = repository_dir / AUDIT_FILE
    try:
        return file.read_bytes().splitlines() if file.exists() else []
    except OSError as error:
        raise InputError(f"cannot read the audit log {file}: {error.strerror}") from error
