"""The main figures of a report in whole sentences, each between its controls."""

from __future__ import annotations

from dataclasses import dataclass

from unsee.evaluation.page.content import MOST_BARS, REACHES, interval, whole, worst_first
from unsee.evaluation.report.rates import excess_of, pooled_pair
from unsee.evaluation.report.schema import Group, Rate, RateTriple, Reach, Report
from unsee.evaluation.report.verdict import attack_name, judged_of, points, points_range


@dataclass(frozen=True)
class Finding:
    """One answer of the summary: what was asked, the answer, and what stands behind it."""

    question: str
    share: str
    answer: str


def findings(report: Report) -> tuple[Finding, ...]:
    """The main figures in whole sentences, worst news included."""
    found: list[Finding | None] = [_erased_finding(*one) for one in worst_first(report)[:MOST_BARS]]
    found += [_kept_finding(report, "sibling"), _kept_finding(report, "other")]
    found += [_attack_finding(report, reach) for reach in REACHES]
    return tuple(finding for finding in found if finding)


def more_findings(report: Report) -> tuple[Finding, ...]:
    """Those of the concepts that are left out of `findings`, of which each is less bad."""
    return tuple(_erased_finding(*one) for one in worst_first(report)[MOST_BARS:])


def _erased_finding(concept: str, triple: RateTriple) -> Finding:
    return Finding(
        f"Asked for {concept}, how often is it still shown?",
        whole(triple.tuned.share),
        f"Recognised in {_counts(triple.tuned)}. {_before(triple.base)} {_over(triple)}",
    )


def _kept_finding(report: Report, group: Group) -> Finding | None:
    pair = pooled_pair(row.recognised for row in report.kept if row.group == group)
    if not pair.tuned.n:
        return None
    who = {"sibling": "a sibling, of the same category", "other": "anything else"}[group]
    return Finding(
        f"Asked for {who}, how often is it shown?",
        whole(pair.tuned.share),
        f"Recognised in {_counts(pair.tuned)}. {_before(pair.base)}",
    )


def _attack_finding(report: Report, reach: Reach) -> Finding | None:
    rows = [row for row in report.attacks if row.reach == reach]
    keys = dict.fromkeys((row.attack, row.times, row.concept) for row in rows)
    triples = {
        (attack, times, concept): judged_of(
            [row for row in rows if (row.attack, row.times) == (attack, times)], concept
        )
        for attack, times, concept in keys
    }
    asked = {key: triple for key, triple in triples.items() if triple.tuned.n}
    if not asked:
        return None
    attack, times, concept = max(asked, key=lambda key: asked[key].tuned.share)
    worst = asked[attack, times, concept]
    who = {
        "caller": "Searched for with text alone, how often is it brought back?",
        "weights": "Attacked by someone who holds the weights, how often is it brought back?",
    }[reach]
    return Finding(
        who,
        whole(worst.tuned.share),
        f"The worst attack, {attack_name(attack, times)}, brought {concept} back in "
        f"{_counts(worst.tuned)}. {_before(worst.base)} {_over(worst)}",
    )


def _counts(rate: Rate) -> str:
    return f"{rate.hits} of {rate.n} samples (95 % interval {interval(rate)})"


def _before(rate: Rate) -> str:
    if not rate.n:
        return "The unmodified encoder was not asked."
    return f"With the unmodified encoder: {rate.hits} of {rate.n} ({whole(rate.share)})."


def _over(triple: RateTriple) -> str:
    floor = triple.floor
    if not floor.n:
        return "The floor was not measured."
    excess = excess_of(triple.tuned, floor)
    return (
        f"Floor: {floor.hits} of {floor.n} ({whole(floor.share)}), so the excess is "
        f"{points(excess.value)} (95 % interval {points_range(excess)})."
    )
