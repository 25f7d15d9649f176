"""The gate before publishing: an encoder needs a report that is its own and good enough.

What a report says is judged by the policy's thresholds, and which encoder it speaks of by digests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unsee.core.errors import InputError, PublicationRefused
from unsee.core.policy import Policy
from unsee.evaluation.report.schema import PAGE_FILE, REPORT_FILE, Report, load_report
from unsee.evaluation.report.verdict import verdict_of
from unsee.repository.layout import AUDIT_FILE

REPORTS_DIR = Path("reports")


@dataclass(frozen=True)
class Judged:
    """What a policy's report says for its publication.

    Args:
        report: as it was read; None if there is none.
        digest: `"sha256:…"` over the bytes of report.json; None if there is none.
        files: the report and its page for people, by name, to be kept beside the encoder that they
            speak of; empty if that is another one.
        problems: why the encoder may not be served, one sentence each.
    """

    report: Report | None
    digest: str | None
    files: Mapping[str, bytes]
    problems: tuple[str, ...] = ()


def check_reason(force: bool, reason: str | None) -> None:
    """Raise InputError unless `force` and a `reason` for it come together."""
    if force and not (reason or "").strip():
        raise InputError('--force needs --reason "…": it is written into the audit log')
    if reason is not None and not force:
        raise InputError("--reason only goes with --force; without --force it has no effect")


def read_report(path: Path | None, policy: Policy) -> Judged:
    """The report at `path` (a report.json or its folder; None: `reports/<policy>`), not judged yet.

    That it is missing or no valid report is the one problem.
    """
    place = REPORTS_DIR / policy.name if path is None else path
    try:
        report = load_report(place)
        file = place / REPORT_FILE if place.is_dir() else place
        content, page = file.read_bytes(), file.with_name(PAGE_FILE)
        pages = {PAGE_FILE: page.read_bytes()} if page.is_file() else {}
    except (InputError, OSError) as error:
        return Judged(None, None, {}, (str(error),))
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return Judged(report, digest, {**pages, REPORT_FILE: content})


def judge(found: Judged, policy: Policy, base_digest: str, encoder_digest: str) -> Judged:
    """Hold a report against the policy's thresholds and the encoder that is to be served.

    Args:
        base_digest: `Base.digest()`.
        encoder_digest: `tensors_digest` of the policy's composed encoder.
    """
    if found.report is None:
        return found
    stale = _stale(found.report, base_digest, encoder_digest)
    if stale is not None:
        return replace(found, files={}, problems=(stale,))
    verdict = verdict_of(found.report, policy.thresholds)
    return replace(found, problems=(*_unasked(found.report, policy), *verdict.unmet))


def demand(problems: Sequence[str], policy: Policy, force: bool) -> None:
    """Go on only if there are no problems, or with `force`.

    Raises:
        PublicationRefused: with every problem.
    """
    if problems and not force:
        raise PublicationRefused(
            f'the policy "{policy.name}" was not published: {"; ".join(problems)}. '
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
