"""From observations to rows, on observations whose figures can be counted by hand."""

from dataclasses import replace

import numpy as np

from unsee.evaluation.asking.evaluation_set import KnownConcept
from unsee.evaluation.asking.questions import Kind, Question
from unsee.evaluation.report.schema import Media
from unsee.evaluation.seeing import measures, shown
from unsee.evaluation.seeing.measures import Observation, Seen

CATEGORIES = {"Blimbo": "character", "Zorpik": "character", "spinning": "action"}


def seen(*frames: bool, motion: float | None = None, score: float | None = None) -> Seen:
    """A clip that shows the concept in those frames, and as a whole if in most of them."""
    return Seen(sum(frames) * 2 > len(frames), frames, motion, score)


def observation(
    name: str,
    kind: Kind,
    tuned: Seen,
    base: Seen,
    media: Media = "video",
    drift: float = 0.0,
    other_seed: float | None = None,
    floor: Seen | None = None,
) -> Observation:
    concept = KnownConcept.model_validate({"name": name, "category": CATEGORIES[name]})
    question = Question(concept, kind, "alone", name, "", 0)
    if floor is None and kind == "erased":
        floor = replace(
            base, whole=False, per_frame=base.per_frame and (False,) * len(base.per_frame)
        )
    return Observation(question, media, tuned, base, drift, other_seed, floor)


def test_motion_and_difference_are_in_levels() -> None:
    still = np.full((1, 4, 2, 2, 3), 200, np.uint8)
    moving = np.zeros((1, 4, 2, 2, 3), np.uint8)
    moving[0, 1::2] = 250
    assert measures.motion_of(np.concatenate([still, moving])).tolist() == [0, 250]
    assert measures.motion_of(still[:, :1]).tolist() == [0]
    assert measures.difference_of(still, moving[:1]).tolist() == [(200 + 50) / 2]


def test_erased_counts_frames_and_wholes() -> None:
    rows = shown.erased_rows(
        [
            observation("Blimbo", "erased", seen(False, True, False), seen(True, True, True)),
            observation("Blimbo", "erased", seen(False, False, False), seen(True, True, False)),
            observation("Blimbo", "erased", seen(True), seen(True), media="image"),
            observation("Zorpik", "sibling", seen(True), seen(True)),
        ]
    )
    assert [(row.concept, row.media) for row in rows] == [("Blimbo", "video"), ("Blimbo", "image")]
    video = rows[0]
    assert (video.any_frame.tuned.hits, video.mean_frame.tuned.hits) == (1, 0)
    assert (video.any_frame.base.hits, video.mean_frame.base.n) == (2, 2)
    assert (video.any_frame.floor.hits, video.any_frame.floor.n) == (0, 2)


def test_a_clip_lasts_if_a_quarter_of_its_frames_show_the_concept() -> None:
    counts = {"tuned": (4, 1), "base": (8, 8), "floor": (1, 0)}
    sides = {
        name: [seen(*(place < shown for place in range(16))) for shown in each]
        for name, each in counts.items()
    }
    rows = [
        observation("Blimbo", "erased", tuned, base, floor=floor)
        for tuned, base, floor in zip(sides["tuned"], sides["base"], sides["floor"], strict=True)
    ]
    (row,) = shown.erased_rows(rows)
    assert row.frames_shown is not None
    assert row.frames_shown.num_frames == 16
    assert {name: getattr(row.frames_shown, name) for name in counts} == counts
    found = {name: getattr(row.lasting, name).hits for name in counts}
    assert found == {"tuned": 1, "base": 2, "floor": 0}
    assert (row.any_frame.tuned.hits, row.any_frame.floor.hits) == (2, 1)


def test_an_action_is_recognised_from_the_whole_clip_by_every_rule() -> None:
    whole, gone = Seen(True, None, 1.0), Seen(False, None, 1.0)
    (row,) = shown.erased_rows([observation("spinning", "erased", gone, whole, floor=whole)])
    assert row.frames_shown is None
    assert row.any_frame == row.lasting == row.mean_frame
    assert (row.lasting.tuned.hits, row.lasting.base.hits, row.lasting.floor.hits) == (0, 1, 1)


def test_a_blank_sample_is_neither_shown_nor_erased() -> None:
    clear = observation("Blimbo", "erased", seen(True), seen(True))
    blank = replace(observation("Blimbo", "erased", seen(False), seen(True)), is_blank=True)
    (row,) = shown.erased_rows([clear, blank, blank])
    assert row.unmeasured == 2
    assert (row.any_frame.tuned.hits, row.any_frame.tuned.n) == (1, 1)
    assert (row.mean_frame.base.hits, row.mean_frame.base.n) == (1, 1)
    (only,) = shown.erased_rows([blank])
    assert (only.unmeasured, only.any_frame.tuned.n, only.any_frame.tuned.high) == (1, 0, 1.0)


def test_blank_is_one_level_in_every_frame() -> None:
    black = np.zeros((3, 4, 8, 8, 3), np.uint8)
    black[1] += 200
    black[2, 3, 0, 0, 0] = 9
    assert measures.blank_of(black).tolist() == [True, True, False]


def test_kept_is_by_concept_group_and_medium() -> None:
    rows = measures.kept_rows(
        [
            observation("Zorpik", "sibling", seen(True), seen(True)),
            observation("Zorpik", "sibling", seen(False), seen(True)),
            observation("Zorpik", "shared_words", seen(True), seen(True)),
            observation("Blimbo", "erased", seen(True), seen(True)),
        ]
    )
    assert [(row.group, row.recognised.tuned.hits, row.recognised.tuned.n) for row in rows] == [
        ("sibling", 1, 2),
        ("shared_words", 1, 1),
    ]


def test_reemergence_looks_at_the_second_half() -> None:
    clips = [(0, 0, 0, 1), (0, 0, 0, 0), (1, 0, 0, 1), (0, 0, 1, 1)]
    rows = measures.reemergence_rows(
        [
            observation("Blimbo", "erased", seen(*map(bool, clip)), seen(True, True, True, True))
            for clip in clips
        ]
    )
    assert len(rows) == 1
    assert (rows[0].returned.tuned.hits, rows[0].returned.tuned.n) == (2, 3)
    assert rows[0].returned.base.n == 0
    assert rows[0].tuned_curve == (0.25, 0, 0.25, 0.75)
    action = Seen(True, None, 1.0, None)
    assert measures.reemergence_rows([observation("spinning", "erased", action, action)]) == ()


def test_motion_is_of_kept_clips_only() -> None:
    kept = [
        observation("Zorpik", "sibling", seen(True, motion=1.0), seen(True, motion=2.0)),
        observation("Zorpik", "other", seen(True, motion=3.0), seen(True, motion=6.0)),
    ]
    erased = observation("Blimbo", "erased", seen(True, motion=9.0), seen(True, motion=1.0))
    row = measures.motion_row([*kept, erased], seed=0)
    assert row is not None
    assert (row.ratio.value, row.ratio.n, row.magnitude.base.value) == (0.5, 2, 4)
    still = observation("Zorpik", "other", seen(True, motion=1.0), seen(True, motion=0.0))
    assert measures.motion_row([still], seed=0) is None


def test_drift_and_clip_score() -> None:
    one = observation(
        "Zorpik", "other", seen(True, score=20.0), seen(True, score=30.0), drift=4, other_seed=8
    )
    (drift,) = measures.drift_rows([one], seed=0)
    assert (drift.tuned.value, drift.other_seed.value) == (4, 8)
    (score,) = measures.clip_score_rows([one], seed=0)
    assert (score.score.tuned.value, score.score.base.value) == (20, 30)
    unscored = observation("Zorpik", "sibling", seen(True), seen(True))
    assert measures.drift_rows([unscored], seed=0) == ()
    assert measures.clip_score_rows([unscored], seed=0) == ()


def test_nothing_observed_gives_no_rows() -> None:
    assert shown.erased_rows([]) == ()
    assert measures.motion_row([], seed=0) is None
