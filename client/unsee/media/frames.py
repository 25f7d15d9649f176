"""Frames as arrays: enlarged, and laid out on a contact sheet."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
"""uint8 [num_frames, height, width, 3], RGB."""

PAPER = (250, 250, 248)
"""The colour between the frames of a sheet."""
GAP = 6
"""Pixels between the frames of a sheet."""
MOST_SIDE = 768
"""Pixels of a frame's longer side up to which a sheet enlarges it."""


def enlarged(frames: Frames, factor: int) -> Frames:
    """Each pixel as a square of `factor` × `factor`, without smoothing."""
    return frames.repeat(factor, axis=1).repeat(factor, axis=2)


def sheet_scale(frames: Frames, most: int) -> int:
    """How often a sheet repeats a pixel: `most` times, less where frames are large already."""
    return max(1, min(most, MOST_SIDE // max(frames.shape[1:3])))


def contact_sheet(
    frames: Frames, *, scale: int | None = None, columns: int = 8
) -> NDArray[np.uint8]:
    """Every frame of a clip in reading order, enlarged `scale` times; uint8 [H, W, 3].

    Args:
        scale: None: three times, less where frames are large.
        columns: the most frames in one line.
    """
    scale = sheet_scale(frames, 3) if scale is None else scale
    count, height, width = frames.shape[0], frames.shape[1] * scale, frames.shape[2] * scale
    across = min(columns, count)
    down = math.ceil(count / across)
    size = (down * (height + GAP) + GAP, across * (width + GAP) + GAP, 3)
    sheet = np.full(size, PAPER, np.uint8)
    for index, frame in enumerate(frames):
        row, column = divmod(index, across)
        top, left = GAP + row * (height + GAP), GAP + column * (width + GAP)
        sheet[top : top + height, left : left + width] = enlarged(frame[None], scale)[0]
    return sheet
