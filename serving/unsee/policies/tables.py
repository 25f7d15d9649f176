"""Policies and the audit log as tables of plain text; reads no pointer and no server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unsee.core.errors import InputError, printable
from unsee.core.policy import BASE_POLICY
from unsee.repository import ledger
from unsee.repository.pointer import listed
from unsee.repository.records import AuditEvent, Policies, PolicyState
from unsee.repository.revisions import read_revision


def policies_table(policies: Policies, repository_dir: Path) -> str:
    """One line per policy: revisions, the verdict on the active one, and what that unsees."""
    rows = [("policy", "active", "eligible", "retired", "verdict", "unsees")]
    for name, state in sorted(policies.policies.items()):
        shown = state.active or max(state.eligible, default=None)
        rows.append(
            (
                f"{name} (default)" if name == policies.default_policy else name,
                str(state.active or "none"),
                _eligible(state),
                listed(state.retired),
                _verdict(repository_dir, name, shown),
                _unseen(repository_dir, name, shown),
            )
        )
    return _table(rows)


def history_table(events: Sequence[AuditEvent]) -> str:
    """One line per event, oldest first; times in UTC."""
    rows = [("at (UTC)", "who", "action", "policy", "revision", "encoder", "report", "outcome")]
    for event in events:
        rows.append(
            (
                event.at.strftime("%Y-%m-%d %H:%M:%S"),
                event.who,
                f"{event.action} (forced)" if event.forced else event.action,
                event.policy,
                str(event.revision),
                _short(event.encoder_digest),
                _short(event.report_digest),
                _said(event),
            )
        )
    return _table(rows)


def _said(event: AuditEvent) -> str:
    """What came of an event and why; of a publication also on which terms it was judged."""
    words = [event.outcome]
    if event.reason is not None:
        words.append(event.reason)
    if event.recogniser is not None:
        words.append(f"seen by {event.recogniser} ({_short(event.recogniser_digest)})")
    words += event.loosened
    if event.signed_with is not None:
        words.append(f"signatures checked with the key {_short(event.signed_with)}")
    return "; ".join(words)


def _eligible(state: PolicyState) -> str:
    marked = (f"{n} (rolled back)" if n in state.rolled_back else str(n) for n in state.eligible)
    return ", ".join(marked) or "none"


def _verdict(repository_dir: Path, policy: str, revision: int | None) -> str:
    """What the gate said of a revision when it was published, as the audit log has it."""
    if policy == BASE_POLICY or revision is None:
        return "-"
    event = ledger.last_publish(repository_dir, policy, revision)
    if event is None:
        return "not on record"
    if not event.unmet:
        return "met"
    return f"forced, {len(event.unmet)} unmet"


def _unseen(repository_dir: Path, policy: str, revision: int | None) -> str:
    if revision is None:
        return ""
    try:
        record = read_revision(repository_dir, policy, revision)
        return ", ".join(c.name for c in record.concepts) or "nothing"
    except InputError:
        return "its record is missing or broken"


def _short(digest: str | None) -> str:
    return "-" if digest is None else digest.removeprefix("sha256:")[:8]


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    flat = [tuple(printable(" ".join(cell.split())) for cell in row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*flat, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in flat)
    return "\n".join(lines)
