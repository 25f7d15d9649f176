"""What the model repository says of the policies: active revisions, concepts, verdicts.

Reads files only, and again when the pointer has changed. Without a repository it knows nothing, and
says so with None.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from unsee.core.errors import InputError
from unsee.core.files import digest_of
from unsee.evaluation.report.schema import PAGE_FILE
from unsee.gateway.behind import repository_files
from unsee.policies.gate import check_kept_signature
from unsee.repository import ledger, pointer
from unsee.repository.base import Base
from unsee.repository.layout import POINTER_FILE, revision_dir
from unsee.repository.records import Policies
from unsee.repository.revisions import read_revision

LOGGER = logging.getLogger("unsee.gateway")


def evidence(
    repository_dir: Path, policy: str, revision: int, verify_with: Path | None
) -> dict[str, bytes]:
    """The files of the report beside a revision by name, as they were read and found right.

    Args:
        verify_with: a public key that it must be signed with; None: it need not be.

    Raises:
        InputError: the report is not the one that was published.
    """
    files = repository_files.report_files(repository_dir, policy, revision)
    ledger.check_report(repository_dir, policy, revision, files)
    if verify_with is not None:
        check_kept_signature(revision_dir(repository_dir, policy, revision), files, verify_with)
    return {file.name: content for file, content in files.items()}


@dataclass(frozen=True, eq=False)
class Page:
    """A report's page, in the memory once however many callers are taking it."""

    content: bytes


class RepositoryView:
    """The policies of a repository; `repository_dir` may be None."""

    def __init__(self, repository_dir: Path | None, verify_with: Path | None = None) -> None:
        self._dir = repository_dir
        self._verify_with = verify_with
        self._seen: tuple[int, int, int] | None = None
        self._policies = Policies()
        self._pages: WeakValueDictionary[str, Page] = WeakValueDictionary()

    def active(self, policies: Sequence[str]) -> dict[str, int | None]:
        """The active revision of each of `policies`; None if there is none, or nobody knows."""
        current = self._current().policies
        return {
            name: current[name].active if name in current else None for name in sorted(policies)
        }

    def describe(self, policy: str, *, with_eligible: bool) -> dict[str, Any]:
        """What a caller may know of a policy that it may use, as JSON values.

        The verdict is that of the gate when the active revision was published.
        """
        state = self._current().policies.get(policy)
        if self._dir is None or state is None or state.active is None:
            return {"policy": policy, "active_revision": None}
        answer: dict[str, Any] = {"policy": policy, "active_revision": state.active}
        if with_eligible:
            answer["eligible_revisions"] = list(state.eligible)
        if (revision_dir(self._dir, policy, state.active) / PAGE_FILE).is_file():
            answer["report"] = f"/v2/policies/{policy}/report"
        try:
            record = read_revision(self._dir, policy, state.active)
            answer["edit_digest"] = record.edit_digest
            answer["unsees"] = [concept.name for concept in record.concepts]
            event = ledger.last_publish(self._dir, policy, state.active)
        except InputError as error:
            LOGGER.error("the repository cannot be read: %s", error)
            return answer
        if event is not None:
            answer["verdict"] = {
                "passed": not event.unmet,
                "unmet": list(event.unmet),
                "forced": event.forced,
                "published_at": event.at.isoformat(),
                "report_digest": event.report_digest,
                "recogniser": event.recogniser,
                "recogniser_digest": event.recogniser_digest,
                "looser_than_default": list(event.loosened),
                "signed": event.signed_with is not None,
            }
        return answer

    def report_page(self, policy: str) -> Page | None:
        """The report.html beside the active revision of `policy`; None if there is none."""
        active = self.active([policy])[policy]
        if self._dir is None or active is None:
            return None
        try:
            content = evidence(self._dir, policy, active, self._verify_with).get(PAGE_FILE)
        except InputError as error:
            LOGGER.error("a report is not shown: %s", error)
            return None
        if content is None:
            return None
        return self._pages.setdefault(digest_of(content), Page(content))

    def base(self) -> Base | None:
        """The defaults and limits of the repository's base; None if nobody knows."""
        return None if self._dir is None else repository_files.base_record(self._dir)

    def _current(self) -> Policies:
        if self._dir is None:
            return self._policies
        try:
            status = (self._dir / POINTER_FILE).stat()
            seen = (status.st_mtime_ns, status.st_ino, status.st_size)
            if seen != self._seen:
                self._policies = pointer.read(self._dir)
                self._seen = seen
        except (OSError, InputError) as error:
            LOGGER.error("the repository's policies cannot be read: %s", error)
        return self._policies
