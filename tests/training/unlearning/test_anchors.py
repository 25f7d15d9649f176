"""Anchors: which prompt stands for the naming one, and where each of its positions went."""

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from unsee.core.categories import Category
from unsee.models.encoders.frame import PromptFrame
from unsee.unlearning.anchors import ANCHORS, Naming, anchored, anchored_positions

LENGTH = 16
FRAMES = st.sampled_from(
    [
        PromptFrame(start=(90,), eos=91, pad=92, length=LENGTH),
        PromptFrame(start=(), eos=91, pad=92, length=LENGTH, reads_padding=False),
    ]
)
"""With and without a token before the prompt."""


def _words(start: int, *, least: int = 0, most: int) -> st.SearchStrategy[tuple[int, ...]]:
    """Distinct ids of their own range, so that a position tells where it came from."""
    return st.integers(least, most).map(lambda count: tuple(range(start, start + count)))


NAMINGS = st.builds(
    Naming, before=_words(0, most=6), name=_words(10, least=1, most=4), after=_words(20, most=20)
)
ANCHOR = _words(50, most=8)


def test_every_category_has_an_anchor() -> None:
    assert set(ANCHORS) == set(get_args(Category))


@given(frame=FRAMES, ids=st.lists(st.integers(0, 80), max_size=2 * LENGTH))
def test_a_framed_prompt_begins_and_ends_as_it_should(frame: PromptFrame, ids: list[int]) -> None:
    row = frame.framed(ids)
    end = row.index(frame.eos)
    assert len(row) == LENGTH
    assert tuple(row[: frame.first]) == frame.start
    assert row[frame.first : end] == ids[: frame.room]
    assert set(row[end + 1 :]) <= {frame.pad}


@given(frame=FRAMES, naming=NAMINGS, anchor=ANCHOR)
def test_positions_stay_within_the_prompt_and_in_order(
    frame: PromptFrame, naming: Naming, anchor: tuple[int, ...]
) -> None:
    positions = anchored_positions(naming, anchor, frame)
    assert len(positions) == LENGTH
    assert all(0 <= position < LENGTH for position in positions)
    assert positions == sorted(positions)


@given(frame=FRAMES, naming=NAMINGS, anchor=ANCHOR)
def test_each_position_takes_over_its_own_token(
    frame: PromptFrame, naming: Naming, anchor: tuple[int, ...]
) -> None:
    row = frame.framed([*naming.before, *naming.name, *naming.after])
    wanted = anchored(naming, anchor, frame)
    positions = anchored_positions(naming, anchor, frame)
    start = frame.first + len(naming.before)
    end = start + len(naming.name)
    whole = len(naming.before) + len(naming.after) + max(len(naming.name), len(anchor))
    is_cut = whole > frame.room
    for position, taken in enumerate(positions):
        follows = position >= end and not is_cut and taken < LENGTH - 1
        if position < start or follows:
            assert wanted[taken] == row[position]


@given(frame=FRAMES, naming=NAMINGS, anchor=ANCHOR)
def test_the_name_takes_over_the_anchor_in_turn(
    frame: PromptFrame, naming: Naming, anchor: tuple[int, ...]
) -> None:
    wanted = anchored(naming, anchor, frame)
    positions = anchored_positions(naming, anchor, frame)
    start = frame.first + len(naming.before)
    taken = [wanted[position] for position in positions[start : start + len(naming.name)]]
    before = [*frame.start, *naming.before, wanted[0]][max(start - 1, 0)]
    filled = [*anchor, *[anchor[-1] if anchor else before] * len(naming.name)]
    assert taken == filled[: len(naming.name)]


def test_by_hand() -> None:
    frame = PromptFrame(start=(0,), eos=1, pad=2, length=8)
    naming = Naming(before=(5,), name=(6, 7), after=(8,))
    assert anchored(naming, (9,), frame) == [0, 5, 9, 8, 1, 2, 2, 2]
    assert anchored_positions(naming, (9,), frame) == [0, 1, 2, 2, 3, 4, 5, 6]
    assert anchored_positions(naming, (), frame) == [0, 1, 1, 1, 2, 3, 4, 5]
    assert anchored_positions(naming, (9, 9, 9), frame) == [0, 1, 2, 3, 5, 6, 7, 7]
