"""What is still shown of what must be gone, by each rule, between base and floor.

Pure functions of what was seen; knows neither models nor files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypedDict

from unsee.evaluation.report.schema import (
    ErasedRow,
    FramesShown,
    Media,
    RateTriple,
    Shape,
    ShapeRow,
)
from unsee.evaluation.report.statistics import rate_of
from unsee.evaluation.seeing.measures import Observation, Seen, grouped, measured
from unsee.evaluation.seeing.recognise import Sighting

Side = Literal["tuned", "base", "floor"]


class ShownFields(TypedDict):
    """The fields of a `ShownRow` that say what was seen."""

    any_frame: RateTriple
    lasting: RateTriple
    mean_frame: RateTriple
    frames_shown: FramesShown | None


def erased_rows(observations: Sequence[Observation]) -> tuple[ErasedRow, ...]:
    """One row per unseen concept, medium and wording."""
    asked = [one for one in observations if one.question.kind == "erased"]
    groups = grouped(asked, lambda o: (o.question.concept.name, o.media, o.question.wording))
    return tuple(
        ErasedRow(
            concept=concept,
            media=media,
            wording=wording,
            unmeasured=sum(row.is_blank for row in rows),
            **shown_fields(_sides(measured(rows))),
        )
        for (concept, media, wording), rows in groups.items()
    )


def shape_rows(observations: Sequence[Observation]) -> tuple[ShapeRow, ...]:
    """One row per unseen concept, medium and other shape of its name."""
    asked = [(one, one.question.shape) for one in observations]
    groups: dict[tuple[str, Media, Shape], list[Observation]] = {}
    for one, shape in asked:
        if shape is not None:
            groups.setdefault((one.question.concept.name, one.media, shape), []).append(one)
    return tuple(
        ShapeRow(
            concept=concept,
            media=media,
            shape=shape,
            unmeasured=sum(row.is_blank for row in rows),
            **shown_fields(_sides(measured(rows))),
        )
        for (concept, media, shape), rows in groups.items()
    )


def shown_fields(seen: Mapping[Side, Sequence[Seen]]) -> ShownFields:
    """The three rules' shares and the frames' counts of equally many samples of each side."""
    return ShownFields(
        any_frame=_triple(seen, lambda one: one.any_frame),
        lasting=_triple(seen, lambda one: one.lasting),
        mean_frame=_triple(seen, lambda one: one.whole),
        frames_shown=_frames_shown(seen),
    )


def seen_of(sighting: Sighting) -> list[Seen]:
    """What was found in each of the N clips."""
    frames = sighting.per_frame
    return [
        Seen(bool(whole), None if frames is None else tuple(frames[row].tolist()))
        for row, whole in enumerate(sighting.whole)
    ]


def _sides(observations: Sequence[Observation]) -> dict[Side, list[Seen]]:
    return {
        "tuned": [one.tuned for one in observations],
        "base": [one.base for one in observations],
        "floor": [one.floor for one in observations if one.floor is not None],
    }


def _triple(seen: Mapping[Side, Sequence[Seen]], is_hit: Callable[[Seen], bool]) -> RateTriple:
    return RateTriple(
        tuned=rate_of([is_hit(one) for one in seen["tuned"]]),
        base=rate_of([is_hit(one) for one in seen["base"]]),
        floor=rate_of([is_hit(one) for one in seen["floor"]]),
    )


def _frames_shown(seen: Mapping[Side, Sequence[Seen]]) -> FramesShown | None:
    """None without samples, and for what single frames cannot show."""
    lengths = {
        0 if one.per_frame is None else len(one.per_frame) for side in seen.values() for one in side
    }
    if len(lengths) != 1 or 0 in lengths:
        return None
    counts = {
        side: tuple(sum(one.per_frame or ()) for one in found) for side, found in seen.items()
    }
    return FramesShown(
        num_frames=lengths.pop(),
        tuned=counts["tuned"],
        base=counts["base"],
        floor=counts["floor"],
    )
