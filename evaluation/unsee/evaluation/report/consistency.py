"""Whether the figures of a report fit together, as those of an evaluation do.

A report is a file that somebody can edit. This finds what was changed in one place and not in the
others; who must be sure of its author signs it. Light: pydantic and numpy.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from unsee.evaluation.report.schema import Mean, Rate, RatePair, Report
from unsee.evaluation.report.statistics import rate_of_counts

_TOLERANCE = 1e-6
_PLAIN_WORDINGS = ("alone", "context", "long")


def inconsistencies(report: Report) -> tuple[str, ...]:
    """One sentence for each way in which `report` contradicts itself; empty if it does not."""
    return tuple(dict.fromkeys(_found(report)))


def _found(report: Report) -> Iterator[str]:
    for where, rate in _rates(report):
        if rate.hits > rate.n:
            yield f"{where}: {rate.hits} hits of {rate.n} samples"
        elif not _is_interval_of(rate):
            yield f"{where}: the interval is not that of {rate.hits} hits of {rate.n} samples"
    for where, pair in _pairs(report):
        if pair.tuned.n != pair.base.n:
            yield (
                f"{where}: {pair.tuned.n} samples of the tuned encoder beside {pair.base.n} of "
                "the unmodified one"
            )
    for where, mean in _means(report):
        if not (math.isfinite(mean.value) and mean.low <= mean.value <= mean.high):
            yield f"{where}: the mean {mean.value:g} lies outside its interval"
    yield from _unlike_settings(report)
    yield from _missing_rows(report)


def _unlike_settings(report: Report) -> Iterator[str]:
    """Rows with another number of samples than the settings say."""
    settings = report.settings
    for erased in report.erased:
        asked = erased.any_frame.tuned.n + erased.unmeasured
        if asked != settings.prompts_per_wording:
            yield (
                f"{erased.concept} ({erased.wording}, {erased.media}): {asked} "
                f"samples where the settings say {settings.prompts_per_wording}"
            )
        if erased.mean_frame.tuned.n != erased.any_frame.tuned.n:
            yield f"{erased.concept} ({erased.wording}, {erased.media}): two numbers of samples"
    for attack in report.attacks:
        asked = attack.recognised.tuned.n + attack.unmeasured
        if asked != settings.attack_prompts:
            yield (
                f"the attack {attack.attack} on {attack.concept} ({attack.media}): "
                f"{asked} samples where the settings say "
                f"{settings.attack_prompts}"
            )


def _missing_rows(report: Report) -> Iterator[str]:
    """Concepts that were not asked for in each wording, and rows that stand twice."""
    keys = Counter((row.concept, row.media, row.wording) for row in report.erased)
    for key, count in keys.items():
        if count > 1:
            yield f"{key[0]} ({key[2]}, {key[1]}): {count} rows"
    media = {medium for _, medium, _ in keys}
    for concept in report.target.concepts:
        wordings = (*_PLAIN_WORDINGS, "synonym") if concept.aliases else _PLAIN_WORDINGS
        for medium in sorted(media):
            if concept.category == "action" and medium == "image":
                continue
            for wording in wordings:
                if (concept.name, medium, wording) not in keys:
                    yield f"{concept.name} ({wording}, {medium}): no row"


def _is_interval_of(rate: Rate) -> bool:
    right = rate_of_counts(rate.hits, rate.n)
    return abs(rate.low - right.low) <= _TOLERANCE and abs(rate.high - right.high) <= _TOLERANCE


def _pairs(report: Report) -> Iterator[tuple[str, RatePair]]:
    """The pairs whose two sides were asked the same questions."""
    for erased in report.erased:
        where = f"{erased.concept} ({erased.wording}, {erased.media})"
        yield where, erased.any_frame
        yield where, erased.mean_frame
    for kept in report.kept:
        yield f"{kept.concept} ({kept.group}, {kept.media})", kept.recognised
    for attack in report.attacks:
        yield f"the attack {attack.attack} on {attack.concept} ({attack.media})", attack.recognised


def _rates(report: Report) -> Iterator[tuple[str, Rate]]:
    for where, pair in _pairs(report):
        yield where, pair.tuned
        yield where, pair.base
    for row in report.reemergence:
        yield f"{row.concept} (late in a clip)", row.returned.tuned
        yield f"{row.concept} (late in a clip)", row.returned.base


def _means(report: Report) -> Iterator[tuple[str, Mean]]:
    if report.motion is not None:
        yield "motion", report.motion.ratio
        yield "motion", report.motion.magnitude.tuned
        yield "motion", report.motion.magnitude.base
    for drift in report.drift:
        yield f"drift ({drift.media})", drift.tuned
        yield f"drift ({drift.media})", drift.other_seed
    for score in report.clip_score:
        yield f"CLIP score ({score.media})", score.score.tuned
        yield f"CLIP score ({score.media})", score.score.base
