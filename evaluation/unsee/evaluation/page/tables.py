"""The tables of a report's page, as cells of text.

Turns a `Report` into rows; knows neither HTML nor what a table means.
"""

from __future__ import annotations

from dataclasses import dataclass

from unsee.evaluation.page.content import GROUPS, MEDIA, SHAPES, WORDINGS, interval, whole
from unsee.evaluation.report.schema import Mean, Rate, Reach, Report, ShownRow
from unsee.evaluation.report.verdict import attack_name

SHOWN_HEADER = (
    "This encoder",
    "Unmodified",
    "Floor",
    "Any frame",
    "Floor, any frame",
    "Average frame",
)


@dataclass(frozen=True)
class Cell:
    """A figure and, smaller, its counts and interval."""

    value: str
    note: str = ""


@dataclass(frozen=True)
class Table:
    """`rows` have as many cells as `header`; the first `num_labels` of each row are its name."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    num_labels: int = 1


def erased_table(report: Report) -> Table:
    """Every erased row by the gate's rule with its controls, and by the two other rules."""
    rows = [
        (
            *map(Cell, (row.concept, WORDINGS[row.wording], MEDIA[row.media])),
            *triple_cells(row),
        )
        for row in report.erased
    ]
    header = ("Concept", "Asked by", "Made", *SHOWN_HEADER)
    return Table("How often an unseen concept is still recognised", header, tuple(rows), 3)


def kept_table(report: Report) -> Table:
    """Every kept row."""
    rows = [
        (
            *map(Cell, (row.concept, row.category, GROUPS[row.group].lower(), MEDIA[row.media])),
            rate_cell(row.recognised.tuned),
            rate_cell(row.recognised.base),
        )
        for row in report.kept
    ]
    header = ("Concept", "Category", "Group", "Made", "This encoder", "Unmodified")
    return Table("How often each kept concept is recognised", header, tuple(rows), 4)


def shape_table(report: Report) -> Table:
    """Every row of other shapes of the name."""
    rows = [
        (
            *map(Cell, (SHAPES[row.shape], row.concept, MEDIA[row.media])),
            *triple_cells(row),
        )
        for row in report.shapes
    ]
    header = ("Name or parameter", "Concept", "Made", *SHOWN_HEADER)
    return Table("How often another shape of the name brings it back", header, tuple(rows), 3)


def attack_table(report: Report, reach: Reach) -> Table:
    """Every row of the attacks of that reach."""
    rows = [
        (
            *map(Cell, (attack_name(row.attack, row.times), row.concept, MEDIA[row.media])),
            *triple_cells(row),
        )
        for row in report.attacks
        if row.reach == reach
    ]
    header = ("Attack", "Concept", "Made", *SHOWN_HEADER)
    return Table("How often an attack brings a concept back", header, tuple(rows), 3)


def side_table(report: Report) -> Table:
    """Motion, drift, CLIP score and re-emergence: what was measured of them."""
    rows: list[tuple[Cell, ...]] = []
    if report.motion:
        motion = report.motion
        pair = motion.magnitude
        rows.append((Cell("Motion, levels"), mean_cell(pair.tuned), mean_cell(pair.base)))
        rows.append((Cell("Motion, relative"), mean_cell(motion.ratio, 100, " %"), Cell("100 %")))
    for drift in report.drift:
        label = f"Drift of unrelated {MEDIA[drift.media]}, levels"
        rows.append((Cell(label), mean_cell(drift.tuned), Cell("–")))
        label = f"Another seed's {MEDIA[drift.media]}, levels"
        rows.append((Cell(label), Cell("–"), mean_cell(drift.other_seed)))
    for score in report.clip_score:
        label = f"CLIP score of kept {MEDIA[score.media]}"
        rows.append((Cell(label), mean_cell(score.score.tuned), mean_cell(score.score.base)))
    for row in report.reemergence:
        label = f"{row.concept} back in the second half"
        rows.append((Cell(label), rate_cell(row.returned.tuned), rate_cell(row.returned.base)))
    header = ("Quantity", "This encoder", "Unmodified")
    return Table("Motion, drift and what comes back late", header, tuple(rows))


def triple_cells(row: ShownRow) -> tuple[Cell, ...]:
    """The cells under `SHOWN_HEADER`."""
    rates = (row.lasting.tuned, row.lasting.base, row.lasting.floor)
    others = (row.any_frame.tuned, row.any_frame.floor, row.mean_frame.tuned)
    return tuple(map(rate_cell, (*rates, *others)))


def rate_cell(rate: Rate) -> Cell:
    """`4 %` with `3 of 80, 1–10 %` beneath."""
    if not rate.n:
        return Cell("–", "no samples")
    return Cell(whole(rate.share), f"{rate.hits} of {rate.n}, {interval(rate)}")


def mean_cell(mean: Mean, scale: float = 1, unit: str = "") -> Cell:
    """The mean with its interval and n beneath."""
    value, low, high = (f"{scale * number:.3g}" for number in (mean.value, mean.low, mean.high))
    return Cell(f"{value}{unit}", f"{low}–{high}{unit}, n = {mean.n}")
