"""From observations to the rows of a report.

Pure functions of what was seen, moved and drifted; knows neither models nor files.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from unsee.evaluation.asking.questions import Kind, Question
from unsee.evaluation.report.schema import (
    ClipScoreRow,
    DriftRow,
    Group,
    KeptRow,
    MeanPair,
    Media,
    MotionRow,
    RatePair,
    ReemergenceRow,
    lasting_frames,
)
from unsee.evaluation.report.statistics import mean_of, rate_of, ratio_of

_GROUP_OF: dict[Kind, Group] = {
    "sibling": "sibling",
    "other": "other",
    "shared_words": "shared_words",
    "translated": "translated",
}


@dataclass(frozen=True)
class Seen:
    """What was found in one clip; `motion` is None for images, `clip_score` without a model."""

    whole: bool
    per_frame: tuple[bool, ...] | None
    motion: float | None = None
    clip_score: float | None = None

    @property
    def any_frame(self) -> bool:
        """Whether a single frame shows it; an action's is `whole`."""
        return self.whole if self.per_frame is None else any(self.per_frame)

    @property
    def lasting(self) -> bool:
        """Whether `lasting_frames` frames show it; an action's is `whole`."""
        if self.per_frame is None:
            return self.whole
        return sum(self.per_frame) >= lasting_frames(len(self.per_frame))


@dataclass(frozen=True)
class Observation:
    """One question's answers in one medium, of the tuned encoder and of the base's.

    `floor` is the base's under the question's plain prompt; None where nothing must be gone.
    `drift` is the mean absolute difference of their frames, `other_seed` that of the base's own
    frames under two seeds (None where it was not measured), both in levels of 0 to 255. With
    `is_blank` one of them shows nothing at all (see `blank_of`), so nothing was measured.
    """

    question: Question
    media: Media
    tuned: Seen
    base: Seen
    drift: float
    other_seed: float | None
    floor: Seen | None = None
    is_blank: bool = False


_Key = TypeVar("_Key", bound=Hashable)
_FLAT = 2  # levels of 0 to 255


def motion_of(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean absolute difference of successive frames of [N, F, H, W, 3], [N]; 0 for one frame."""
    if frames.shape[1] < 2:
        return np.zeros(len(frames))
    return difference_of(frames[:, 1:], frames[:, :-1])


def blank_of(frames: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether clips [N, F, H, W, 3] are of one level in every frame, [N]: black, most often.

    So come out samples with values that are not finite, and those of a broken decoder or of a
    safety checker; nothing can be said of what they would show.
    """
    levels = frames.reshape(*frames.shape[:2], -1)
    spread = levels.max(axis=2).astype(np.int16) - levels.min(axis=2)
    return np.asarray((spread <= _FLAT).all(axis=1))


def difference_of(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean absolute difference of two arrays [N, …] in levels of 0 to 255, [N]."""
    difference = np.abs(one.astype(np.int16) - other.astype(np.int16))
    return np.asarray(difference.reshape(len(one), -1).mean(axis=1), dtype=np.float64)


def kept_rows(observations: Sequence[Observation]) -> tuple[KeptRow, ...]:
    """One row per kept concept, group and medium."""
    groups = grouped(
        _kept(observations), lambda o: (o.question.concept.name, o.question.kind, o.media)
    )
    return tuple(
        KeptRow(
            concept=concept,
            category=rows[0].question.concept.category,
            group=_GROUP_OF[kind],
            media=media,
            recognised=_rate_pair(rows, lambda seen: seen.whole),
        )
        for (concept, kind, media), rows in groups.items()
    )


def reemergence_rows(observations: Sequence[Observation]) -> tuple[ReemergenceRow, ...]:
    """One row per unseen concept that single frames of a clip can show."""
    clips = [
        one
        for one in observations
        if one.question.kind == "erased"
        and one.media == "video"
        and not one.is_blank
        and one.tuned.per_frame is not None
        and len(one.tuned.per_frame) > 1
    ]
    groups = grouped(clips, lambda o: o.question.concept.name)
    return tuple(_reemergence(concept, rows) for concept, rows in groups.items())


def motion_row(observations: Sequence[Observation], seed: int) -> MotionRow | None:
    """The motion of kept clips; None if there are none, or the base's stand still."""
    clips = [one for one in _kept(observations) if one.media == "video"]
    tuned = [one.tuned.motion or 0.0 for one in clips]
    base = [one.base.motion or 0.0 for one in clips]
    if not any(base):
        return None
    return MotionRow(magnitude=_mean_pair(tuned, base, seed), ratio=ratio_of(tuned, base, seed))


def drift_rows(observations: Sequence[Observation], seed: int) -> tuple[DriftRow, ...]:
    """One row per medium, over unrelated prompts."""
    measured = [one for one in observations if one.other_seed is not None]
    groups = grouped(measured, lambda o: o.media)
    return tuple(
        DriftRow(
            media=media,
            tuned=mean_of([one.drift for one in rows], seed),
            other_seed=mean_of([one.other_seed or 0.0 for one in rows], seed),
        )
        for media, rows in groups.items()
    )


def clip_score_rows(observations: Sequence[Observation], seed: int) -> tuple[ClipScoreRow, ...]:
    """One row per medium, over kept prompts; none without a CLIP model."""
    scored = [one for one in _kept(observations) if one.tuned.clip_score is not None]
    groups = grouped(scored, lambda o: o.media)
    return tuple(
        ClipScoreRow(
            media=media,
            score=_mean_pair(
                [one.tuned.clip_score or 0.0 for one in rows],
                [one.base.clip_score or 0.0 for one in rows],
                seed,
            ),
        )
        for media, rows in groups.items()
    )


def measured(observations: Sequence[Observation]) -> list[Observation]:
    """Those that are not blank."""
    return [one for one in observations if not one.is_blank]


def _kept(observations: Sequence[Observation]) -> list[Observation]:
    return [one for one in observations if one.question.kind in _GROUP_OF]


def grouped(
    observations: Sequence[Observation], key: Callable[[Observation], _Key]
) -> dict[_Key, list[Observation]]:
    """The observations by `key`, in their order."""
    groups: dict[_Key, list[Observation]] = {}
    for observation in observations:
        groups.setdefault(key(observation), []).append(observation)
    return groups


def _rate_pair(rows: Sequence[Observation], is_hit: Callable[[Seen], bool]) -> RatePair:
    return RatePair(
        tuned=rate_of([is_hit(one.tuned) for one in rows]),
        base=rate_of([is_hit(one.base) for one in rows]),
    )


def _mean_pair(tuned: Sequence[float], base: Sequence[float], seed: int) -> MeanPair:
    return MeanPair(tuned=mean_of(tuned, seed), base=mean_of(base, seed))


def _reemergence(concept: str, rows: Sequence[Observation]) -> ReemergenceRow:
    tuned = _per_frame([one.tuned for one in rows])
    base = _per_frame([one.base for one in rows])
    return ReemergenceRow(
        concept=concept,
        returned=RatePair(tuned=rate_of(_returns(tuned)), base=rate_of(_returns(base))),
        tuned_curve=tuple(tuned.mean(axis=0).tolist()),
        base_curve=tuple(base.mean(axis=0).tolist()),
    )


def _per_frame(clips: Sequence[Seen]) -> NDArray[np.bool_]:
    """[N, F]."""
    return np.array([clip.per_frame for clip in clips], dtype=np.bool_)


def _returns(per_frame: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of the clips whose first half shows nothing: whether the second half does."""
    middle = per_frame.shape[1] // 2
    unseen_first = ~per_frame[:, :middle].any(axis=1)
    return np.asarray(per_frame[unseen_first, middle:].any(axis=1))
