"""Whether the figures of a report fit together, as those of an evaluation do.

A report is a file that somebody can edit. This finds what was changed in one place and not in the
others; who must be sure of its author signs it. Light: pydantic and numpy.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from unsee.evaluation.report.rates import rate_of_counts
from unsee.evaluation.report.schema import (
    AttackRow,
    ErasedRow,
    Mean,
    Rate,
    Report,
    ShapeRow,
    ShownRow,
    lasting_frames,
)
from unsee.evaluation.report.verdict import attack_name, spaced

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
    for where, rates in _together(report):
        sizes = [rate.n for rate in rates]
        if len(set(sizes)) > 1:
            yield (
                f"{where}: {sizes[0]} samples of the tuned encoder beside "
                f"{' and '.join(map(str, sizes[1:]))} of the unmodified one"
            )
    for where, row in _shown_rows(report):
        yield from _unlike_frames(where, row)
    for where, mean in _means(report):
        if not (math.isfinite(mean.value) and mean.low <= mean.value <= mean.high):
            yield f"{where}: the mean {mean.value:g} lies outside its interval"
    yield from _unlike_settings(report)
    yield from _missing_rows(report)


def _unlike_settings(report: Report) -> Iterator[str]:
    """Rows with another number of samples than the settings say."""
    settings = report.settings
    for asked, rows in (
        (settings.prompts_per_wording, report.erased),
        (settings.attack_prompts, report.attacks),
        (settings.prompts_per_shape, report.shapes),
    ):
        for where, row in _named(rows):
            samples = row.any_frame.tuned.n + row.unmeasured
            if samples != asked:
                yield f"{where}: {samples} samples where the settings say {asked}"
            sizes = {rule.tuned.n for rule in (row.any_frame, row.lasting, row.mean_frame)}
            if len(sizes) > 1:
                yield f"{where}: two numbers of samples"


def _unlike_frames(where: str, row: ShownRow) -> Iterator[str]:
    """Shares that do not follow from the numbers of frames beside them."""
    frames = row.frames_shown
    if frames is None:
        if row.any_frame != row.lasting:
            yield f"{where}: two shares of samples that have no frames to count"
        return
    for side in ("tuned", "base", "floor"):
        counts: tuple[int, ...] = getattr(frames, side)
        rules = ((row.any_frame, 1), (row.lasting, lasting_frames(frames.num_frames)))
        if max(counts, default=0) > frames.num_frames:
            yield f"{where}: {max(counts)} frames of a clip of {frames.num_frames}"
        for triple, least in rules:
            rate: Rate = getattr(triple, side)
            hits = sum(count >= least for count in counts)
            if (hits, len(counts)) != (rate.hits, rate.n):
                yield (
                    f"{where}: {rate.hits} hits of {rate.n} samples, where the frames say {hits} "
                    f"of {len(counts)}"
                )


def _missing_rows(report: Report) -> Iterator[str]:
    """Concepts that were not asked for in each wording, and rows that stand twice."""
    keys = Counter((row.concept, row.media, row.wording) for row in report.erased)
    for key, count in keys.items():
        if count > 1:
            yield f"{key[0]} ({key[2]}, {key[1]}): {count} rows"
    media = {medium for _, medium, _ in keys}
    for concept in report.target.concepts:
        wordings = list(_PLAIN_WORDINGS)
        wordings += ["synonym"] if concept.aliases else []
        wordings += ["translated"] if concept.category in report.settings.translated else []
        for medium in sorted(media):
            if concept.category == "action" and medium == "image":
                continue
            for wording in wordings:
                if (concept.name, medium, wording) not in keys:
                    yield f"{concept.name} ({wording}, {medium}): no row"


def _is_interval_of(rate: Rate) -> bool:
    right = rate_of_counts(rate.hits, rate.n)
    return abs(rate.low - right.low) <= _TOLERANCE and abs(rate.high - right.high) <= _TOLERANCE


def _shown_rows(report: Report) -> Iterator[tuple[str, ShownRow]]:
    yield from _named(report.erased)
    yield from _named(report.attacks)
    yield from _named(report.shapes)


def _named(rows: Sequence[ErasedRow | AttackRow | ShapeRow]) -> Iterator[tuple[str, ShownRow]]:
    """The rows, and what to call each."""
    for row in rows:
        if isinstance(row, ErasedRow):
            yield f"{row.concept} ({row.wording}, {row.media})", row
        elif isinstance(row, ShapeRow):
            yield f"{row.concept} ({spaced(row.shape)}, {row.media})", row
        else:
            name = attack_name(row.attack, row.times)
            yield f"the attack {name} on {row.concept} ({row.media})", row


def _together(report: Report) -> Iterator[tuple[str, tuple[Rate, ...]]]:
    """Shares of equally many samples: the tuned encoder's first, then its controls'."""
    for where, row in _shown_rows(report):
        for rule in (row.any_frame, row.lasting, row.mean_frame):
            yield where, (rule.tuned, rule.base, rule.floor)
    for kept in report.kept:
        where = f"{kept.concept} ({kept.group}, {kept.media})"
        yield where, (kept.recognised.tuned, kept.recognised.base)


def _rates(report: Report) -> Iterator[tuple[str, Rate]]:
    for where, rates in _together(report):
        for rate in rates:
            yield where, rate
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
