"""The before/after sheet: the frames are where they should be, and words fit."""

import numpy as np
import pytest
from PIL import Image

from unsee.core.errors import InputError
from unsee.media.frames import contact_sheet
from unsee.media.sheet import Marker, SheetRow, before_after_sheet, evenly_spaced


def clip(colour, num_frames=8):
    frames = np.empty((num_frames, 16, 16, 3), np.uint8)
    frames[:] = colour
    frames[:, 0, 0, 0] = range(num_frames)
    return frames


def rows(count=2, label="Blimbo walking", markers=None):
    return [SheetRow(label, (clip((200, 0, 0)), clip((90, 0, 200))), markers) for _ in range(count)]


def sheet(rows, **options):
    return before_after_sheet(rows, title="t", headings=("before", "after"), **options)


def coverage(image: Image.Image, colour):
    return int((np.asarray(image) == colour).all(axis=-1).sum())


def test_every_clip_is_drawn_with_the_asked_number_of_frames():
    image = sheet(rows(), frames_per_clip=4, scale=2)
    drawn = 2 * 4 * (32 * 32 - 4)  # rows × frames × pixels, less the numbered corner
    assert coverage(image, (200, 0, 0)) == drawn
    assert coverage(image, (90, 0, 200)) == drawn


def test_before_is_left_of_after():
    pixels = np.asarray(sheet(rows()))
    left = np.argwhere((pixels == (200, 0, 0)).all(axis=-1))[:, 1]
    right = np.argwhere((pixels == (90, 0, 200)).all(axis=-1))[:, 1]
    assert left.max() < right.min()


def test_markers_and_long_labels_make_rows_taller():
    plain = sheet(rows()).height
    marked = sheet(rows(markers=(Marker("seen"), Marker("not seen", "good")))).height
    wordy = sheet(rows(label="a very long prompt " * 10)).height
    assert plain < marked < wordy


def test_short_clips_show_what_they_have():
    row = SheetRow("x", (clip((200, 0, 0), 2), clip((90, 0, 200), 8)))
    assert coverage(sheet([row], scale=1), (200, 0, 0)) == 2 * (16 * 16 - 1)


def test_frames_are_spaced_from_first_to_last():
    assert evenly_spaced(clip((0, 0, 0)), 3)[:, 0, 0, 0].tolist() == [0, 4, 7]
    assert evenly_spaced(clip((0, 0, 0)), 8)[:, 0, 0, 0].tolist() == list(range(8))


@pytest.mark.parametrize(
    "broken",
    [
        [],
        [SheetRow("x", (clip((0, 0, 0)),))],
        [SheetRow("x", (clip((0, 0, 0)), np.zeros((2, 8, 8, 3), np.uint8)))],
        [SheetRow("x", (clip((0, 0, 0)),) * 2, (Marker("seen"),))],
    ],
)
def test_rows_that_do_not_fit_are_refused(broken):
    with pytest.raises(InputError):
        sheet(broken)


def test_large_frames_are_not_enlarged():
    large = np.zeros((2, 480, 832, 3), np.uint8)
    assert contact_sheet(large).shape == (480 + 12, 2 * 838 + 6, 3)
    side, across = sheet([SheetRow("x", (large, large))]).size[::-1]
    assert (side < 2 * 480, across < 5 * 832) == (True, True)


def test_a_contact_sheet_breaks_long_clips_into_lines():
    picture = contact_sheet(clip((9, 9, 9), 9), scale=1, columns=4)
    assert picture.shape == (3 * 22 + 6, 4 * 22 + 6, 3)
    assert coverage(picture, (9, 9, 9)) == 9 * (16 * 16 - 1)
