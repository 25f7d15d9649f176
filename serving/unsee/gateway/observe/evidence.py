"""What the reports of the active revisions say, as metrics, read when Prometheus asks.

Knows the files of a repository and the figures of a report. Revisions are never rewritten, so each
report is read once. A label is a policy of the settings, its active revision, or a threshold's
name; their number is bounded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from unsee.core.errors import InputError
from unsee.core.policy import Thresholds
from unsee.evaluation.report.schema import REPORT_FILE, report_of
from unsee.evaluation.report.verdict import verdict_of
from unsee.gateway.behind.revisions import evidence
from unsee.repository import ledger
from unsee.repository.layout import revision_dir
from unsee.repository.records import AuditEvent

LOGGER = logging.getLogger("unsee.gateway")
FIGURES = {
    "erased_at_most": "erased",
    "siblings_kept_at_least": "siblings_kept",
    "others_kept_at_least": "others_kept",
    "motion_within": "motion_off",
    "attacked_at_most": "attacked",
}
"""The figures that the gate judges, by the threshold that each is held against."""
ALL_JUDGED = Thresholds(attacked_at_most=1.0)

Revisions = Callable[[], Mapping[str, int | None]]
"""The policies in use with their active revisions; None where it is not known."""


class ActiveEvidence(Collector):
    """The evidence of the active revisions; nothing without a repository."""

    def __init__(
        self, repository_dir: Path | None, revisions: Revisions, verify_with: Path | None = None
    ) -> None:
        self._dir = repository_dir
        self._verify_with = verify_with
        self._revisions = revisions
        self._figures: dict[tuple[str, int], dict[str, float]] = {}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The figures of each active revision's report, and whether it passed the gate."""
        measured = GaugeMetricFamily(
            "unsee_gateway_evidence",
            "What the active revision's report says: shares and excesses, as the gate judges them.",
            labels=("policy", "revision", "figure"),
        )
        passed = GaugeMetricFamily(
            "unsee_gateway_gate_passed",
            "1 if the active revision met its policy's thresholds when published, 0 if forced.",
            labels=("policy", "revision"),
        )
        for policy, revision in self._revisions().items():
            if self._dir is None or revision is None:
                continue
            for figure, value in self._of(self._dir, policy, revision).items():
                measured.add_metric((policy, str(revision), figure), value)
            published = _last_publish(self._dir, policy, revision)
            if published is not None:
                passed.add_metric((policy, str(revision)), float(not published.unmet))
        yield measured
        yield passed

    def _of(self, repository_dir: Path, policy: str, revision: int) -> dict[str, float]:
        key = policy, revision
        if key not in self._figures:
            self._figures[key] = self._read(repository_dir, policy, revision)
        return self._figures[key]

    def _read(self, repository_dir: Path, policy: str, revision: int) -> dict[str, float]:
        file = revision_dir(repository_dir, policy, revision) / REPORT_FILE
        if not file.exists():
            return {}
        try:
            files = evidence(repository_dir, policy, revision, self._verify_with)
            checks = verdict_of(report_of(files.get(REPORT_FILE, b""), file), ALL_JUDGED).checks
        except InputError as error:
            LOGGER.error("a report is no evidence: %s", error)
            return {}
        return {
            FIGURES[check.name]: check.measured
            for check in checks
            if check.name in FIGURES and check.measured is not None
        }


def _last_publish(repository_dir: Path, policy: str, revision: int) -> AuditEvent | None:
    try:
        return ledger.last_publish(repository_dir, policy, revision)
    except InputError as error:
        LOGGER.error("the audit log cannot be read: %s", error)
        return None
