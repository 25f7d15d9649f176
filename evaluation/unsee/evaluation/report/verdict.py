"""Whether a report meets its thresholds, by how much it misses them, and how to say so.

Light on purpose (pydantic alone): `unsee publish` asks here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from unsee.core.policy import Thresholds
from unsee.evaluation.report.schema import AttackRow, ErasedRow, Group, RatePair, Report, pooled

NOT_MEASURED = "not measured"
_ROUNDING = 1e-9
"""Shares are quotients of small integers: 0.9 of 20 must meet a limit of 0.9."""

_Row = TypeVar("_Row", ErasedRow, AttackRow)


@dataclass(frozen=True)
class Check:
    """One threshold held against the report.

    Args:
        name: the field of `Thresholds`.
        measured: in the limit's unit; None if the report does not hold the figure.
        n: samples behind the figure; 0 if there is none.
        sentence: what was found; if the check failed, also by how much.
    """

    name: str
    measured: float | None
    limit: float
    n: int
    passed: bool
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """All checks of a report, in the order of the thresholds' fields."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def unmet(self) -> tuple[str, ...]:
        """The sentences of the checks that failed."""
        return tuple(check.sentence for check in self.checks if not check.passed)

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        if self.passed:
            return f"meets all {len(self.checks)} thresholds"
        failed = f"misses {len(self.unmet)} of {len(self.checks)} thresholds"
        return f"{failed}: {'; '.join(self.unmet)}"


def verdict_of(report: Report, thresholds: Thresholds) -> Verdict:
    """Hold `report` against `thresholds`; a figure that is not in the report fails its check."""
    checks = [
        _erased(report, thresholds.erased_at_most),
        *_base_recognised(report, thresholds.base_recognised_at_least),
        _kept(report, "sibling", "siblings_kept_at_least", thresholds.siblings_kept_at_least),
        _kept(report, "other", "others_kept_at_least", thresholds.others_kept_at_least),
        _motion(report, thresholds.motion_within),
    ]
    if thresholds.attacked_at_most is not None:
        checks.append(_attacked(report, thresholds.attacked_at_most))
    return Verdict((*checks, _samples(checks, thresholds.samples_at_least)))


def percent(share: float) -> str:
    """A share in per cent with three significant digits: `"4 %"`, `"97.5 %"`, `"0.125 %"`."""
    return f"{100 * share:.3g} %"


def spaced(name: str) -> str:
    """An identifier as words: `"soft-prompt"` -> `"soft prompt"`."""
    return name.replace("_", " ").replace("-", " ")


def _erased(report: Report, limit: float) -> Check:
    name = "erased_at_most"
    counts: dict[str, tuple[int, int]] = {}
    for concept in report.target.concepts:
        hits, n = _counts(report.erased, concept.name, lambda row: row.any_frame)
        what = f"whether {concept.name} is still recognised"
        blank = sum(row.unmeasured for row in report.erased if row.concept == concept.name)
        if blank:
            return _blank(name, limit, what, blank, n)
        if not n:
            return _missing(name, limit, what)
        counts[concept.name] = hits, n
    if not counts:
        return _missing(name, limit, "whether a concept is still recognised")
    worst = max(counts, key=lambda concept: _share(counts[concept]))
    found = f"{worst} is still recognised in {_of(counts[worst])}"
    return _at_most(name, counts[worst], limit, found)


def _base_recognised(report: Report, limit: float) -> list[Check]:
    """Whether the recogniser sees each unseen concept where it was not unlearned.

    Of concepts that were not asked for `_erased` says so.
    """
    counts: dict[str, tuple[int, int]] = {}
    for row in report.erased:
        hits, n = counts.get(row.concept, (0, 0))
        counts[row.concept] = hits + row.any_frame.base.hits, n + row.any_frame.base.n
    asked = [
        concept.name for concept in report.target.concepts if counts.get(concept.name, (0, 0))[1]
    ]
    if not asked:
        return []
    worst = min(asked, key=lambda concept: _share(counts[concept]))
    measured = _share(counts[worst])
    found = f"with the unmodified encoder, {worst} is recognised in {_of(counts[worst])}"
    passed = measured >= limit - _ROUNDING
    rule = _rule(f"at least {percent(limit)}", limit - measured, passed)
    name = "base_recognised_at_least"
    return [Check(name, measured, limit, counts[worst][1], passed, found + rule)]


def _attacked(report: Report, limit: float) -> Check:
    name = "attacked_at_most"
    counts: dict[tuple[str, str], tuple[int, int]] = {}
    attacks = sorted({row.attack for row in report.attacks}) or [""]
    for concept in report.target.concepts:
        for attack in attacks:
            rows = [row for row in report.attacks if row.attack == attack]
            hits, n = _counts(rows, concept.name, lambda row: row.recognised)
            by = f" by the attack {spaced(attack)}" if attack else " by attacks"
            what = f"whether {concept.name} is brought back{by}"
            blank = sum(row.unmeasured for row in rows if row.concept == concept.name)
            if blank:
                return _blank(name, limit, what, blank, n)
            if not n:
                return _missing(name, limit, what)
            counts[attack, concept.name] = hits, n
    if not counts:
        return _missing(name, limit, "whether attacks bring a concept back")
    worst = max(counts, key=lambda pair: _share(counts[pair]))
    found = f"the attack {spaced(worst[0])} brings {worst[1]} back in {_of(counts[worst])}"
    return _at_most(name, counts[worst], limit, found)


def _kept(report: Report, group: Group, name: str, limit: float) -> Check:
    who = "siblings" if group == "sibling" else "everything else"
    pairs = [row.recognised for row in report.kept if row.group == group]
    tuned, base = pooled([pair.tuned for pair in pairs]), pooled([pair.base for pair in pairs])
    if not tuned[1] or not base[1]:
        return _missing(name, limit, f"how often {who} would be recognised")
    if not base[0]:
        return _missing(name, limit, f"how {who} fared (even the unmodified encoder shows none)")
    measured = _share(tuned) / _share(base)
    found = (
        f"{who}: recognised in {_of(tuned)}, which is {percent(measured)} of the unmodified "
        f"encoder's {percent(_share(base))}"
    )
    passed = measured >= limit - _ROUNDING
    rule = _rule(f"at least {percent(limit)}", limit - measured, passed)
    return Check(name, measured, limit, tuned[1], passed, found + rule)


def _motion(report: Report, limit: float) -> Check:
    name = "motion_within"
    ratio = report.motion.ratio if report.motion else None
    if ratio is None or not ratio.n or not math.isfinite(ratio.value):
        return _missing(name, limit, "whether clips still move")
    measured = abs(ratio.value - 1)
    found = (
        f"motion of kept clips: {percent(ratio.value)} of the unmodified encoder's in "
        f"{ratio.n} clips"
    )
    passed = measured <= limit + _ROUNDING
    rule = _rule(f"within {percent(limit)}", measured - limit, passed)
    return Check(name, measured, limit, ratio.n, passed, found + rule)


def _samples(checks: Sequence[Check], limit: int) -> Check:
    name = "samples_at_least"
    sizes = [check.n for check in checks if check.measured is not None]
    if not sizes:
        return _missing(name, limit, "anything that is judged")
    fewest = min(sizes)
    found = f"the fewest samples behind a judged figure are {fewest}"
    rule = (
        f" (at least {limit})"
        if fewest >= limit
        else (f" (at least {limit}; {limit - fewest} too few)")
    )
    return Check(name, fewest, limit, fewest, fewest >= limit, found + rule)


def _at_most(name: str, counts: tuple[int, int], limit: float, found: str) -> Check:
    measured = _share(counts)
    passed = measured <= limit + _ROUNDING
    rule = _rule(f"at most {percent(limit)}", measured - limit, passed)
    return Check(name, measured, limit, counts[1], passed, found + rule)


def _blank(name: str, limit: float, what: str, blank: int, measured: int) -> Check:
    total = blank + measured
    return _missing(name, limit, f"{what} ({blank} of {total} samples are black or not finite)")


def _missing(name: str, limit: float, what: str) -> Check:
    return Check(name, None, limit, 0, False, f"{NOT_MEASURED}: {what}")


def _rule(limit: str, excess: float, passed: bool) -> str:
    points = f"{100 * excess:.2g}"
    missed = "" if passed else f"; missed by {points} percentage point{'s' * (points != '1')}"
    return f" ({limit}{missed})"


def _counts(
    rows: Iterable[_Row], concept: str, pair_of: Callable[[_Row], RatePair]
) -> tuple[int, int]:
    return pooled([pair_of(row).tuned for row in rows if row.concept == concept])


def _share(counts: tuple[int, int]) -> float:
    return counts[0] / counts[1]


def _of(counts: tuple[int, int]) -> str:
    return f"{counts[0]} of {counts[1]} samples, {percent(_share(counts))}"
