"""What a report's page says in plain words: checks, and the rows of its plots.

Turns a `Report` into text; knows neither HTML nor pictures, and the tables are in the template.
"""

from __future__ import annotations

from dataclasses import dataclass

from unsee.core.policy import Thresholds
from unsee.evaluation.page.plots import CurvePoint, PlotRow
from unsee.evaluation.report.rates import excess_of, pooled_pair, pooled_triple
from unsee.evaluation.report.schema import Group, Rate, RateTriple, Reach, Report, Shape
from unsee.evaluation.report.verdict import (
    Check,
    Verdict,
    attack_name,
    judged_of,
    percent,
)

WORDINGS = {
    "alone": "name alone",
    "context": "in a scene",
    "long": "long description",
    "synonym": "other name",
    "translated": "other language",
}
MEDIA = {"image": "images", "video": "videos"}
GROUPS: dict[Group, str] = {
    "sibling": "Siblings",
    "other": "Everything else",
    "shared_words": "Sharing a word",
    "translated": "Siblings in another language",
}
CHECKS = {
    "erased_at_most": "Unseen concept still recognised, over the floor",
    "erased_interval_at_most": "The same, upper end of the interval",
    "floor_at_most": "Recognised where nobody asks for it",
    "siblings_kept_at_least": "Siblings kept",
    "others_kept_at_least": "Everything else kept",
    "motion_within": "Change of motion",
    "attacked_at_most": "Brought back by an attack, over the floor",
    "samples_at_least": "Samples behind each figure",
    "base_recognised_at_least": "Recognised before unlearning",
}
SHAPES: dict[Shape, str] = {
    "capitals": "in capitals",
    "list": "in a list",
    "negation": "negated",
    "repetition": "repeated",
    "quotes": "in quotes",
    "typo": "misspelt",
    "lookalikes": "look-alike letters",
    "beside_others": "beside other names",
    "negative_prompt": "negative prompt",
    "low_guidance": "no guidance",
    "high_guidance": "most guidance",
    "few_steps": "one step",
    "many_steps": "most steps",
}
REACHES: dict[Reach, str] = {
    "caller": "What a caller can send",
    "weights": "What needs the weights",
}
MOST_BARS = 6
"""How many concepts have bars of their own at the head of the page, and sentences."""


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


def bar_rows(report: Report) -> list[PlotRow]:
    """Per concept what the gate judges, the largest excess first; of many also all as one."""
    asked = worst_first(report)
    rows = [_plot_row(name, triple) for name, triple in asked[:MOST_BARS]]
    if len(asked) < 2:
        return rows
    whole = pooled_triple(triple for _, triple in asked)
    return [_plot_row(f"all {len(asked)} concepts", whole), *rows]


def worst_first(report: Report) -> list[tuple[str, RateTriple]]:
    """What the gate judges of each concept that was asked for, the largest excess first."""
    shown = [(one.name, judged_of(report.erased, one.name)) for one in report.target.concepts]
    asked = [(name, triple) for name, triple in shown if triple.tuned.n and triple.floor.n]
    return sorted(asked, key=lambda each: -excess_of(each[1].tuned, each[1].floor).value)


def erased_rows(report: Report) -> list[PlotRow]:
    """Per medium and wording the lasting share, over all unseen concepts."""
    return [
        _plot_row(words, pooled_triple(triples), MEDIA[media].capitalize())
        for media in MEDIA
        for wording, words in WORDINGS.items()
        if (
            triples := [
                row.lasting for row in report.erased if (row.media, row.wording) == (media, wording)
            ]
        )
    ]


def kept_rows(report: Report) -> list[PlotRow]:
    """Per group and concept the share over all media."""
    keys = dict.fromkeys((row.group, row.concept) for row in report.kept)
    return [
        PlotRow(name, pair.tuned, pair.base, group=words)
        for group, words in GROUPS.items()
        for key_group, name in keys
        if key_group == group
        for pair in [
            pooled_pair(r.recognised for r in report.kept if (r.group, r.concept) == (group, name))
        ]
    ]


def shape_rows(report: Report) -> list[PlotRow]:
    """Per other shape of the name the lasting share, over all unseen concepts and media."""
    shapes = dict.fromkeys(row.shape for row in report.shapes)
    return [
        _plot_row(
            SHAPES[shape], pooled_triple(r.lasting for r in report.shapes if r.shape == shape)
        )
        for shape in shapes
    ]


def attack_rows(report: Report, reach: Reach) -> list[PlotRow]:
    """Per concept and attack of that reach the lasting share over all media, at each budget."""
    rows = [row for row in report.attacks if row.reach == reach]
    keys = dict.fromkeys((row.concept, row.attack, row.times) for row in rows)
    several = len(report.target.concepts) > 1
    return [
        _plot_row(
            attack_name(attack, times),
            judged_of([r for r in rows if (r.attack, r.times) == (attack, times)], name),
            name if several else "",
        )
        for name, attack, times in keys
    ]


def attack_curves(report: Report, reach: Reach) -> dict[str, list[CurvePoint]]:
    """By attack of that reach its share over its budget, for attacks at more than one budget.

    All concepts and media are taken as one.
    """
    rows = [row for row in report.attacks if row.reach == reach]
    curves = {}
    for attack in dict.fromkeys(row.attack for row in rows):
        budgets = sorted({row.times for row in rows if row.attack == attack})
        if len(budgets) > 1:
            curves[attack] = [
                CurvePoint(times, triple.tuned, triple.base, triple.floor)
                for times in budgets
                for triple in [
                    pooled_triple(r.lasting for r in rows if (r.attack, r.times) == (attack, times))
                ]
            ]
    return curves


def _plot_row(label: str, triple: RateTriple, group: str = "") -> PlotRow:
    return PlotRow(label, triple.tuned, triple.base, triple.floor, group)


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
