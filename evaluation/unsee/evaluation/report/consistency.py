"""Whether the figures of a report fit together, as those of an evaluation do.

A report is a file that somebody can edit. This finds what was changed in one place and not in the
others; who must be sure of its author signs it. Light: pydantic and numpy.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import get_args

from unsee.evaluation.report.rates import rate_of_counts
from unsee.evaluation.report.schema import (
    AttackRow,
    ErasedRow,
    KeptRow,
    Mean,
    MotionRow,
    Rate,
    Report,
    Shape,
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
        if not _is_interval_of(rate):
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
        if not -math.inf < mean.low <= mean.value <= mean.high < math.inf:
            yield f"{where}: the mean {mean.value:g} lies outside its interval"
    if report.motion is not None and not _is_ratio_of_means(report.motion):
        yield "motion: the ratio is not that of the two means"
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
    for kept in report.kept:
        samples = kept.recognised.tuned.n
        if kept.group != "other" and samples != settings.prompts_per_sibling:
            yield (
                f"{_name_of_kept(kept)}: {samples} samples where the settings say "
                f"{settings.prompts_per_sibling}"
            )
    others = [row for row in report.kept if (row.group, row.media) == ("other", "video")]
    samples = sum(row.recognised.tuned.n for row in others)
    if others and samples != settings.num_others:
        yield f"other (video): {samples} samples where the settings say {settings.num_others}"


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
    """Rows that stand twice, and those that an evaluation of these settings has."""
    names = Counter(where for where, _ in _shown_rows(report))
    names.update(map(_name_of_kept, report.kept))
    for where, count in names.items():
        if count > 1:
            yield f"{where}: {count} rows"
    for where in _expected_rows(report):
        if where not in names:
            yield f"{where}: no row"


def _expected_rows(report: Report) -> Iterator[str]:
    """What each unseen concept was asked by, and which attacks were made on it, in each medium."""
    settings = report.settings
    shapes = [*map(spaced, get_args(Shape))] if settings.prompts_per_shape else []
    attacks = dict.fromkeys(attack_name(row.attack, row.times) for row in report.attacks)
    media = {row.media for row in report.erased} | {row.media for row in report.kept}
    for concept in report.target.concepts:
        asked = [*_PLAIN_WORDINGS, *shapes]
        asked += ["synonym"] if concept.aliases else []
        asked += ["translated"] if concept.category in settings.translated else []
        for medium in sorted(media):
            if concept.category == "action" and medium == "image":
                continue
            for how in asked:
                yield f"{concept.name} ({how}, {medium})"
            for attack in attacks:
                yield f"the attack {attack} on {concept.name} ({medium})"


def _is_interval_of(rate: Rate) -> bool:
    right = rate_of_counts(rate.hits, rate.n)
    return abs(rate.low - right.low) <= _TOLERANCE and abs(rate.high - right.high) <= _TOLERANCE


def _is_ratio_of_means(motion: MotionRow) -> bool:
    tuned, base, ratio = motion.magnitude.tuned, motion.magnitude.base, motion.ratio
    alike = math.isclose(tuned.value, ratio.value * base.value, rel_tol=_TOLERANCE)
    return alike and tuned.n == base.n == ratio.n


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


def _name_of_kept(row: KeptRow) -> str:
    return f"{row.concept} ({row.group}, {row.media})"


def _together(report: Report) -> Iterator[tuple[str, tuple[Rate, ...]]]:
    """Shares of equally many samples: the tuned encoder's first, then its controls'."""
    for where, row in _shown_rows(report):
        for rule in (row.any_frame, row.lasting, row.mean_frame):
            yield where, (rule.tuned, rule.base, rule.floor)
    for kept in report.kept:
        yield _name_of_kept(kept), (kept.recognised.tuned, kept.recognised.base)


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
