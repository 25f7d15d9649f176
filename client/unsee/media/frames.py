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


def enlarged(frames: Frames, factor: int) -> Frames:
    """Each pixel as a square of `factor` × `factor`, without smoothing."""
    return frames.repeat(factor, axis=1).repeat(factor, axis=2)


def contact_sheet(frames: Frames, *, scale: int = 3, columns: int = 8) -> NDArray[np.uint8]:
    """Every frame of a clip in reading order, enlarged `scale` times; uint8 [H, W, 3].

    Args:
        columns: the most frames in one line.
    """
    tiles = enlarged(frames, scale)
    count, height, width, _ = tiles.shape
    across = min(columns, count)
    down = math.ceil(count / across)
    size = (down * (height + GAP) + GAP, across * (width + GAP) + GAP, 3)
    sheet = np.full(size, PAPER, np.uint8)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, across)
        top, left = GAP + row * (height + GAP), GAP + column * (width + GAP)
        sheet[top : top + height, left : left + width] = tile
    return sheet
