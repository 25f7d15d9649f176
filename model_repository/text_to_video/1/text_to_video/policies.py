"""Which revision a request gets: the pointer file `policies.json` at the repository's root.

The file is replaced atomically by whoever promotes a revision; it is read again when it has
changed. This module never writes it and does not know what a policy unsees.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from text_to_video.layout import POINTER_FILE, REVISION_FILE, revision_dir
from text_to_video.refusal import Refusal, quoted

SCHEMA_VERSION = 2


@dataclass(frozen=True)
class Revision:
    """One revision of one policy; `edit_digest` is None where nothing is edited."""

    policy: str
    number: int
    edit_digest: str | None


class PolicyPointer:
    """The pointer file of one repository."""

    def __init__(self, repository_dir: Path) -> None:
        self._repository_dir = repository_dir
        self._path = repository_dir / POINTER_FILE
        self._seen: tuple[int, int, int] | None = None
        self._record: dict[str, Any] = {}

    def resolve(self, policy: str | None, revision: int | None) -> Revision:
        """The revision to use now; raises Refusal (INVALID_ARGUMENT, NOT_FOUND or UNAVAILABLE)."""
        record = self._current()
        policies: dict[str, Any] = record["policies"]
        names = ", ".join(sorted(policies))
        name = record.get("default_policy") if policy is None else policy
        if name is None:
            raise Refusal("INVALID_ARGUMENT", f"name a policy; this server has {names}")
        if name not in policies:
            raise Refusal(
                "NOT_FOUND", f"there is no policy {quoted(name)}; this server has {names}"
            )
        entry = policies[name]
        number = entry["active"] if revision is None else revision
        if number is None:
            raise Refusal("UNAVAILABLE", f"the policy {name} has no active revision yet")
        if number not in entry["eligible"]:
            offered = ", ".join(str(n) for n in sorted(entry["eligible"])) or "none"
            raise Refusal(
                "NOT_FOUND", f"the policy {name} has no revision {number}; it offers {offered}"
            )
        return Revision(name, number, self._edit_digest(name, number))

    def _current(self) -> dict[str, Any]:
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_ino, status.st_size)
            if seen != self._seen:
                self._record = _checked(json.loads(self._path.read_text(encoding="utf-8")))
                self._seen = seen
        except (OSError, ValueError) as error:
            message = f"the server cannot read its list of policies ({POINTER_FILE})"
            raise Refusal("UNAVAILABLE", message) from error
        return self._record

    def _edit_digest(self, policy: str, revision: int) -> str | None:
        """What the revision's record says; None where it cannot be read."""
        file = revision_dir(self._repository_dir, policy, revision) / REVISION_FILE
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        digest = record.get("edit_digest") if isinstance(record, dict) else None
        return None if digest is None else str(digest)


def _checked(record: Any) -> dict[str, Any]:
    if not isinstance(record, dict) or record.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(f"{POINTER_FILE} is not of schema version {SCHEMA_VERSION}")
    for name, entry in record["policies"].items() if "policies" in record else [("", None)]:
        if not isinstance(entry, dict) or not {"active", "eligible"} <= entry.keys():
            raise ValueError(f"{POINTER_FILE} lacks the revisions of {name!r}")
    return record
