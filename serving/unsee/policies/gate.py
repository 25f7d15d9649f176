"""The gate before publishing: an encoder needs a report that is its own and good enough.

Judges what the report says by the policy's thresholds, and whom it speaks of by digest. Knows
neither how reports are made nor how revisions are; needs nothing heavier than pydantic.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unsee.core.errors import InputError, PublicationRefused
from unsee.core.policy import Policy
from unsee.evaluation.report.schema import PAGE_FILE, REPORT_FILE, Report, load_report
from unsee.evaluation.report.verdict import verdict_of
from unsee.repository.layout import AUDIT_FILE

REPORTS_DIR = Path("reports")


@dataclass(frozen=True)
class Override:
    """The wish to publish whatever the report says. `force` and `reason` come together.

    Raises:
        InputError: one of the two is given without the other.
    """

    force: bool = False
    reason: str | None = None

    def __post_init__(self) -> None:
        if self.force and not (self.reason or "").strip():
            raise InputError('--force needs --reason "…": it is written into the audit log')
        if self.reason is not None and not self.force:
            raise InputError("--reason only goes with --force; without --force it has no effect")


@dataclass(frozen=True)
class Evidence:
    """A report as it was read, or why there is none to read.

    Args:
        content: the bytes of report.json; None if it is missing or not a valid report.
        unmet: one sentence if there is no report to judge.
        page: the bytes of report.html, if it lies beside the report.
    """

    report: Report | None
    content: bytes | None
    unmet: tuple[str, ...] = ()
    page: bytes | None = None

    @property
    def digest(self) -> str | None:
        """`"sha256:…"` over the bytes of report.json."""
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}" if self.content else None


@dataclass(frozen=True)
class Clearance:
    """What the gate found: nothing is `unmet` where the encoder may be served.

    Args:
        content: the bytes of the report, if it speaks of this very encoder.
        page: those of its page for people, likewise.
    """

    report_digest: str | None
    content: bytes | None
    unmet: tuple[str, ...]
    page: bytes | None = None


def read_evidence(path: Path | None, policy: Policy) -> Evidence:
    """The report at `path` (a report.json or its folder; None: `reports/<policy>`)."""
    place = REPORTS_DIR / policy.name if path is None else path
    try:
        report = load_report(place)
        file = place / REPORT_FILE if place.is_dir() else place
        page = file.with_name(PAGE_FILE)
        return Evidence(
            report, file.read_bytes(), page=page.read_bytes() if page.is_file() else None
        )
    except (InputError, OSError) as error:
        return Evidence(None, None, (str(error),))


def inspect(evidence: Evidence, policy: Policy, base_digest: str, encoder_digest: str) -> Clearance:
    """Hold the evidence against the policy's thresholds and the encoder that it would serve.

    Args:
        base_digest: `Base.digest()`.
        encoder_digest: `tensors_digest` of the policy's composed encoder.
    """
    report = evidence.report
    if report is None:
        return Clearance(None, None, evidence.unmet)
    stale = _stale(report, base_digest, encoder_digest)
    if stale is not None:
        return Clearance(evidence.digest, None, (stale,))
    verdict = verdict_of(report, policy.thresholds)
    unmet = (*_unasked(report, policy), *verdict.unmet)
    return Clearance(evidence.digest, evidence.content, unmet, evidence.page)


def demand(unmet: Sequence[str], policy: Policy, override: Override) -> None:
    """Go on only if nothing is unmet, or if it is overridden.

    Raises:
        PublicationRefused: with every unmet sentence.
    """
    if unmet and not override.force:
        raise PublicationRefused(
            f'the policy "{policy.name}" was not published: {"; ".join(unmet)}. '
            f'To publish it all the same: --force --reason "…" (recorded in {AUDIT_FILE})'
        )


def _stale(report: Report, base_digest: str, encoder_digest: str) -> str | None:
    target = report.target
    again = "run `unsee evaluate` on the policy as it is now"
    if target.base_digest != base_digest:
        return (
            f"the report was made with another base (text encoder {_short(target.base_digest)}, "
            f"this one is {_short(base_digest)}); {again}"
        )
    if target.encoder_digest != encoder_digest:
        return (
            f"the report was made for another encoder ({_short(target.encoder_digest)}, the "
            f"policy's deltas now give {_short(encoder_digest)}); {again}"
        )
    return None


def _unasked(report: Report, policy: Policy) -> tuple[str, ...]:
    """The policy's concepts that the report does not speak of: it may have been made for fewer."""
    asked = {concept.name.casefold() for concept in report.target.concepts}
    return tuple(
        f"not measured: whether {concept.name} is still recognised"
        for concept in policy.unsee
        if concept.name.casefold() not in asked
    )


def _short(digest: str) -> str:
    return digest[:19]
