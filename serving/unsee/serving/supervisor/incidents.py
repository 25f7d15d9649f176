"""`incidents.jsonl`: what died in a served repository, and what came of it.

One JSON object per line, only ever appended, beside the audit log. Knows nothing of processes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unsee.core.errors import InputError
from unsee.core.files import appending

INCIDENTS_FILE = "incidents.jsonl"
MAX_READ_BYTES = 256 * 1024


class Incident(BaseModel):
    """One line of the file.

    Args:
        at: when it was noticed, in UTC.
        server: host and gRPC port of the server.
        kind: what died: one model process, or the server with all of them.
        model, version: of the model process; None for the server.
        outcome: whether the dead one has been replaced.
        seconds: from when it was noticed until the outcome.
        what: one sentence for a person.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    server: str
    kind: Literal["model", "server"]
    model: str | None = None
    version: int | None = None
    outcome: Literal["repaired", "failed"]
    seconds: float
    what: str


def append(repository_dir: Path, incident: Incident) -> None:
    """Write the incident into the repository's file, in one piece.

    Raises:
        FileNotWritable: the file cannot be written.
    """
    with appending(repository_dir / INCIDENTS_FILE) as write:
        write(incident.model_dump_json().encode())


def last(repository_dir: Path, count: int) -> list[Incident]:
    """The last incidents of a repository, newest first; lines that are none are passed over.

    Raises:
        InputError: the file cannot be read.
    """
    file = repository_dir / INCIDENTS_FILE
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - MAX_READ_BYTES))
            lines = stream.read().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"cannot read the incidents {file}: {error.strerror}") from error
    found: list[Incident] = []
    for line in reversed(lines):
        if len(found) == count:
            break
        try:
            found.append(Incident.model_validate_json(line))
        except ValidationError:
            continue
    return found
