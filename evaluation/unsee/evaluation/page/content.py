"""What a report's page says in plain words: findings, checks, and the rows of its plots.

Turns a `Report` into text; knows neither HTML nor pictures, and the tables are in `page_tables`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from unsee.core.policy import Thresholds
from unsee.evaluation.page.plots import PlotRow
from unsee.evaluation.report.schema import Group, Rate, RatePair, Report, pooled
from unsee.evaluation.report.statistics import rate_of
from unsee.evaluation.report.verdict import Check, Verdict, percent, spaced

WORDINGS = {
    "alone": "name alone",
    "context": "in a scene",
    "long": "long description",
    "synonym": "other name",
}
MEDIA = {"image": "images", "video": "videos"}
GROUPS: dict[Group, str] = {
    "sibling": "Siblings",
    "other": "Everything else",
    "shared_words": "Sharing a word",
}
CHECKS = {
    "erased_at_most": "Unseen concept still recognised",
    "siblings_kept_at_least": "Siblings kept",
    "others_kept_at_least": "Everything else kept",
    "motion_within": "Change of motion",
    "attacked_at_most": "Brought back by an attack",
    "samples_at_least": "Samples behind each figure",
    "base_recognised_at_least": "Recognised before unlearning",
}


@dataclass(frozen=True)
class Finding:
    """One answer of the summary: what was asked, the answer, and what stands behind it."""

    question: str
    share: str
    answer: str


@dataclass(frozen=True)
class CheckLine:
    """One threshold: its name in words, the measured value, the limit, and the check's sentence."""

    title: str
    measured: str
    limit: str
    passed: bool
    sentence: str


def headline(verdict: Verdict) -> str:
    """The page's first line."""
    total, missed = len(verdict.checks), len(verdict.unmet)
    if not missed:
        return f"Passed: all {total} thresholds are met"
    return f"Not passed: {missed} of {total} thresholds {'is' if missed == 1 else 'are'} missed"


def findings(report: Report) -> tuple[Finding, ...]:
    """The main figures in whole sentences, worst news included."""
    found = [_erased_finding(report, concept.name) for concept in report.target.concepts]
    found += [_kept_finding(report, "sibling"), _kept_finding(report, "other")]
    return tuple(finding for finding in [*found, _attack_finding(report)] if finding)


def check_lines(verdict: Verdict) -> tuple[CheckLine, ...]:
    """The checks as lines of a table."""
    return tuple(
        CheckLine(
            CHECKS[check.name],
            "not measured" if check.measured is None else _amount(check, check.measured),
            f"{_bound(check)} {_amount(check, check.limit)}",
            check.passed,
            check.sentence,
        )
        for check in verdict.checks
    )


def _bound(check: Check) -> str:
    return "at least" if check.name.endswith("_at_least") else "at most"


def erased_rows(report: Report) -> list[PlotRow]:
    """Per medium and wording the share in any frame, over all unseen concepts."""
    return [
        PlotRow(words, pool(pairs), MEDIA[media].capitalize())
        for media in MEDIA
        for wording, words in WORDINGS.items()
        if (
            pairs := [
                row.any_frame
                for row in report.erased
                if (row.media, row.wording) == (media, wording)
            ]
        )
    ]


def kept_rows(report: Report) -> list[PlotRow]:
    """Per group and concept the share over all media."""
    keys = dict.fromkeys((row.group, row.concept) for row in report.kept)
    return [
        PlotRow(
            name,
            pool(r.recognised for r in report.kept if (r.group, r.concept) == (group, name)),
            words,
        )
        for group, words in GROUPS.items()
        for key_group, name in keys
        if key_group == group
    ]


def attack_rows(report: Report) -> list[PlotRow]:
    """Per concept and attack the share over all media."""
    keys = dict.fromkeys((row.concept, row.attack) for row in report.attacks)
    return [
        PlotRow(
            spaced(attack),
            pool(r.recognised for r in report.attacks if (r.concept, r.attack) == (name, attack)),
            name if len(report.target.concepts) > 1 else "",
        )
        for name, attack in keys
    ]


def pool(pairs: Iterable[RatePair]) -> RatePair:
    """All samples of `pairs` as one, with the interval of the whole."""
    taken = list(pairs)
    return RatePair(
        tuned=_pool([pair.tuned for pair in taken]), base=_pool([pair.base for pair in taken])
    )


def _erased_finding(report: Report, concept: str) -> Finding | None:
    pair = pool(row.any_frame for row in report.erased if row.concept == concept)
    if not pair.tuned.n:
        return None
    return Finding(
        f"Asked for {concept}, how often is it still shown?",
        whole(pair.tuned.share),
        f"Recognised in {_counts(pair.tuned)}. {_before(pair.base)}",
    )


def _kept_finding(report: Report, group: Group) -> Finding | None:
    pair = pool(row.recognised for row in report.kept if row.group == group)
    if not pair.tuned.n:
        return None
    who = {"sibling": "a sibling, of the same category", "other": "anything else"}[group]
    return Finding(
        f"Asked for {who}, how often is it shown?",
        whole(pair.tuned.share),
        f"Recognised in {_counts(pair.tuned)}. {_before(pair.base)}",
    )


def _attack_finding(report: Report) -> Finding | None:
    keys = dict.fromkeys((row.attack, row.concept) for row in report.attacks)
    pairs = {
        key: pool(r.recognised for r in report.attacks if (r.attack, r.concept) == key)
        for key in keys
    }
    asked = {key: pair for key, pair in pairs.items() if pair.tuned.n}
    if not asked:
        return None
    attack, concept = max(asked, key=lambda key: asked[key].tuned.share)
    worst = asked[attack, concept]
    return Finding(
        "Attacked by someone who holds the encoder, how often is it brought back?",
        whole(worst.tuned.share),
        f"The worst attack, {spaced(attack)}, brought {concept} back in {_counts(worst.tuned)}. "
        f"{_before(worst.base)}",
    )


def _counts(rate: Rate) -> str:
    return f"{rate.hits} of {rate.n} samples (95 % interval {interval(rate)})"


def _before(rate: Rate) -> str:
    if not rate.n:
        return "The unmodified encoder was not asked."
    return f"With the unmodified encoder: {rate.hits} of {rate.n} ({whole(rate.share)})."


def _pool(rates: Sequence[Rate]) -> Rate:
    hits, n = pooled(list(rates))
    return rate_of(np.arange(n) < hits)


def interval(rate: Rate) -> str:
    """The bounds in whole per cent."""
    return f"{100 * rate.low:.0f}–{100 * rate.high:.0f} %"


def whole(share: float) -> str:
    """A share in whole per cent."""
    return f"{100 * share:.0f} %"


def _amount(check: Check, value: float) -> str:
    return f"{value:.0f}" if check.name == "samples_at_least" else percent(value)


def thresholds_note(thresholds: Thresholds) -> str:
    """What the thresholds leave unjudged."""
    if thresholds.attacked_at_most is None:
        return "Attacks are reported but not judged: this policy sets no threshold for them."
    return "Attacks are judged by the worst one."
