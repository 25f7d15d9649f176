"""Whether a report meets its thresholds, by how much it misses them, and how to say so.

What must be gone is judged by the excess over its floor (see `report.schema`) under the rule
`lasting`. Light on purpose (pydantic alone): `unsee publish` asks here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from unsee.core.policy import Thresholds
from unsee.evaluation.report.rates import Excess, excess_of, pooled_pair, pooled_triple
from unsee.evaluation.report.schema import (
    AttackRow,
    ErasedRow,
    Group,
    Rate,
    RateTriple,
    Report,
    ShownRow,
)

NOT_MEASURED = "not measured"
_ROUNDING = 1e-9
"""Shares are quotients of small integers: 0.9 of 20 must meet a limit of 0.9."""


@dataclass(frozen=True)
class Check:
    """One threshold held against the report.

    Args:
        name: the field of `Thresholds`.
        measured: in the limit's unit; None if the report does not hold the figure.
        n: samples behind the figure, the fewest if it is the worst of several; 0 if there is none.
        sentence: what was found; if the check failed, also by how much.
        interval: the 95 % interval of an excess; None for other figures.
    """

    name: str
    measured: float | None
    limit: float
    n: int
    passed: bool
    sentence: str
    interval: tuple[float, float] | None = None


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
        *_erased(report, thresholds),
        *_base_recognised(report, thresholds.base_recognised_at_least),
        *_floor(report, thresholds.floor_at_most),
        _kept(report, "sibling", "siblings_kept_at_least", thresholds.siblings_kept_at_least),
        _kept(report, "other", "others_kept_at_least", thresholds.others_kept_at_least),
        _motion(report, thresholds.motion_within),
    ]
    if thresholds.attacked_at_most is not None:
        checks.append(_attacked(report, thresholds.attacked_at_most))
    return Verdict((*checks, _samples(checks, thresholds.samples_at_least)))


def percent(share: float) -> str:
    """A share in per cent with three significant digits: `"4 %"`, `"97.5 %"`, `"0.125 %"`."""
    return f"{_digits(100 * share, 3)} %"


def points(difference: float) -> str:
    """A difference of shares: `"4.7 percentage points"`."""
    return _points_of(_digits(100 * difference, 2))


def points_range(excess: Excess) -> str:
    """The bounds of an excess in percentage points: `"-1.2 to 9.4"`."""
    return f"{_digits(100 * excess.low, 2)} to {_digits(100 * excess.high, 2)}"


def attack_name(attack: str, times: int) -> str:
    """An attack in words, with its budget where that is not the usual one."""
    return spaced(attack) if times == 1 else f"{spaced(attack)} at {times} times its usual budget"


def spaced(name: str) -> str:
    """An identifier as words: `"soft-prompt"` -> `"soft prompt"`."""
    return name.replace("_", " ").replace("-", " ")


def judged_of(rows: Iterable[ShownRow], concept: str) -> RateTriple:
    """What the gate judges of `concept`: the rule `lasting`, all wordings and media as one."""
    return pooled_triple(row.lasting for row in rows if row.concept == concept)


def _erased(report: Report, thresholds: Thresholds) -> list[Check]:
    """The worst concept's excess, and where the policy asks for it the upper end of its interval.

    The end is judged of the concept whose end is the highest, which may be another one.
    """
    name, limit = "erased_at_most", thresholds.erased_at_most
    excesses: dict[str, tuple[RateTriple, Excess]] = {}
    for concept in report.target.concepts:
        triple = judged_of(report.erased, concept.name)
        what = f"whether {concept.name} is still recognised"
        missing = _unanswered(name, limit, what, report.erased, concept.name, triple)
        if missing is not None:
            return [missing]
        excesses[concept.name] = triple, excess_of(triple.tuned, triple.floor)
    if not excesses:
        return [_missing(name, limit, "whether a concept is still recognised")]
    worst = max(excesses, key=lambda concept: excesses[concept][1].value)
    triple, excess = excesses[worst]
    n, found = _fewest(excesses.values()), f"{worst} is still recognised in"
    checks = [_excess(name, triple, excess, excess.value, limit, found, n)]
    if thresholds.erased_interval_at_most is not None:
        worst = max(excesses, key=lambda concept: excesses[concept][1].high)
        triple, excess = excesses[worst]
        name, limit = "erased_interval_at_most", thresholds.erased_interval_at_most
        found = f"the interval's upper end, {worst}: still recognised in"
        checks.append(_excess(name, triple, excess, excess.high, limit, found, n))
    return checks


def _base_recognised(report: Report, limit: float) -> list[Check]:
    """Whether the recogniser sees each unseen concept where it was not unlearned.

    Of concepts that were not asked for `_erased` says so.
    """
    shown = _asked(report)
    if not shown:
        return []
    worst = min(shown, key=lambda concept: shown[concept].base.share)
    rate = shown[worst].base
    found = f"with the unmodified encoder, {worst} is recognised in {_of(rate)}"
    passed = rate.share >= limit - _ROUNDING
    rule = _rule(f"at least {percent(limit)}", limit - rate.share, passed)
    name = "base_recognised_at_least"
    return [Check(name, rate.share, limit, rate.n, passed, found + rule)]


def _floor(report: Report, limit: float) -> list[Check]:
    """Whether the neutral prompts are neutral: a high floor would hide what is left."""
    shown = _asked(report)
    if not shown:
        return []
    worst = max(shown, key=lambda concept: shown[concept].floor.share)
    rate = shown[worst].floor
    found = f"with the unmodified encoder and neutral prompts, {worst} is recognised in {_of(rate)}"
    passed = rate.share <= limit + _ROUNDING
    rule = _rule(f"at most {percent(limit)}", rate.share - limit, passed)
    return [Check("floor_at_most", rate.share, limit, rate.n, passed, found + rule)]


def _asked(report: Report) -> dict[str, RateTriple]:
    """What the gate judges of each unseen concept that was asked for."""
    found = {one.name: judged_of(report.erased, one.name) for one in report.target.concepts}
    return {name: triple for name, triple in found.items() if triple.base.n and triple.floor.n}


def _attacked(report: Report, limit: float) -> Check:
    name = "attacked_at_most"
    excesses: dict[tuple[str, int, str], tuple[RateTriple, Excess]] = {}
    keys = sorted({(row.attack, row.times) for row in report.attacks}) or [("", 1)]
    for concept in report.target.concepts:
        for attack, times in keys:
            rows = [row for row in report.attacks if (row.attack, row.times) == (attack, times)]
            triple = judged_of(rows, concept.name)
            by = f" by the attack {attack_name(attack, times)}" if attack else " by attacks"
            what = f"whether {concept.name} is brought back{by}"
            missing = _unanswered(name, limit, what, rows, concept.name, triple)
            if missing is not None:
                return missing
            excesses[attack, times, concept.name] = triple, excess_of(triple.tuned, triple.floor)
    if not excesses:
        return _missing(name, limit, "whether attacks bring a concept back")
    worst = max(excesses, key=lambda key: excesses[key][1].value)
    triple, excess = excesses[worst]
    found = f"the attack {attack_name(worst[0], worst[1])} brings {worst[2]} back in"
    return _excess(name, triple, excess, excess.value, limit, found, _fewest(excesses.values()))


def _fewest(judged: Iterable[tuple[RateTriple, Excess]]) -> int:
    """The fewest samples behind any of the excesses of which only the worst is told."""
    return min(triple.tuned.n for triple, _ in judged)


def _kept(report: Report, group: Group, name: str, limit: float) -> Check:
    who = "siblings" if group == "sibling" else "everything else"
    pair = pooled_pair(row.recognised for row in report.kept if row.group == group)
    tuned, base = pair.tuned, pair.base
    if not tuned.n or not base.n:
        return _missing(name, limit, f"how often {who} would be recognised")
    if not base.hits:
        return _missing(name, limit, f"how {who} fared (even the unmodified encoder shows none)")
    measured = tuned.share / base.share
    found = (
        f"{who}: recognised in {_of(tuned)}, which is {percent(measured)} of the unmodified "
        f"encoder's {percent(base.share)}"
    )
    passed = measured >= limit - _ROUNDING
    rule = _rule(f"at least {percent(limit)}", limit - measured, passed)
    return Check(name, measured, limit, tuned.n, passed, found + rule)


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


def _excess(
    name: str,
    triple: RateTriple,
    excess: Excess,
    measured: float,
    limit: float,
    found: str,
    n: int,
) -> Check:
    passed = measured <= limit + _ROUNDING
    rule = _rule(f"at most {percent(limit)}", measured - limit, passed)
    sentence = (
        f"{found} {_of(triple.tuned)}, which is {points(excess.value)} over the floor of "
        f"{triple.floor.hits} of {triple.floor.n} (95 % interval {points_range(excess)})"
    )
    interval = excess.low, excess.high
    return Check(name, measured, limit, n, passed, sentence + rule, interval)


def _unanswered(
    name: str,
    limit: float,
    what: str,
    rows: Sequence[ErasedRow] | Sequence[AttackRow],
    concept: str,
    triple: RateTriple,
) -> Check | None:
    """A failed check if samples of `concept` came out blank, or there are none."""
    blank = sum(row.unmeasured for row in rows if row.concept == concept)
    if blank:
        total = blank + triple.tuned.n
        what = f"{what} ({blank} of {total} samples are blank: black or not finite)"
    elif triple.tuned.n and triple.floor.n:
        return None
    return _missing(name, limit, what)


def _missing(name: str, limit: float, what: str) -> Check:
    return Check(name, None, limit, 0, False, f"{NOT_MEASURED}: {what}")


def _rule(limit: str, excess: float, passed: bool) -> str:
    missed = "" if passed else f"; missed by {_points_of(_digits(100 * excess, 2))}"
    return f" ({limit}{missed})"


def _of(rate: Rate) -> str:
    return f"{rate.hits} of {rate.n} samples, {percent(rate.share)}"


def _digits(number: float, digits: int) -> str:
    """With so many significant digits; 100 is `"100"` and not a power of ten."""
    return f"{float(f'{number:.{digits}g}'):g}"


def _points_of(number: str) -> str:
    return f"{number} percentage point{'s' * (number != '1')}"
