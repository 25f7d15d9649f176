"""A before/after sheet: clips of the same prompts side by side, such as those of two policies."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from unsee.core.errors import InputError
from unsee.media.frames import GAP, PAPER, Frames, sheet_scale

Colour = tuple[int, int, int]

INK: Colour = (28, 30, 34)
FAINT: Colour = (112, 116, 124)
RULE: Colour = (222, 222, 218)
TONES: dict[str, Colour] = {
    "good": (22, 121, 74),
    "bad": (190, 48, 44),
    "neutral": (92, 98, 110),
}
"""What a marker's colour says; the words of the marker say it too."""

MARGIN = 28
COLUMN_GAP = 36
LABEL_WIDTH = 250
LABEL_CHARACTERS = 24
ROW_PADDING = 16
BADGE_HEIGHT = 26
FRAMES_PER_CLIP = 4


@dataclass(frozen=True)
class Marker:
    """A verdict under a clip in a few words, such as "seen"; `tone` is a key of `TONES`."""

    text: str
    tone: str = "neutral"


@dataclass(frozen=True, eq=False)
class SheetRow:
    """One prompt and its clips, one per column.

    Args:
        label: the prompt.
        clips: uint8 [F, H, W, 3] each; all rows have equally many, of one height and width.
        markers: None, or one verdict per clip.
        note: a second, fainter line under the label, such as "unseen by this policy".
    """

    label: str
    clips: tuple[Frames, ...]
    markers: tuple[Marker, ...] | None = None
    note: str = ""


@dataclass(frozen=True)
class _Grid:
    """Where things are on a before/after sheet, in pixels."""

    columns: int
    frames_per_clip: int
    height: int
    width: int

    @property
    def clip_width(self) -> int:
        return self.frames_per_clip * (self.width + GAP) - GAP

    @property
    def page_width(self) -> int:
        return self.left(self.columns) - COLUMN_GAP + MARGIN

    def left(self, column: int) -> int:
        return MARGIN + LABEL_WIDTH + column * (self.clip_width + COLUMN_GAP)

    def row_height(self, row: SheetRow) -> int:
        clip = self.height + (BADGE_HEIGHT + 8 if row.markers else 0)
        return max(clip, _label_height(row)) + 2 * ROW_PADDING


def before_after_sheet(
    rows: Sequence[SheetRow],
    *,
    title: str,
    headings: Sequence[str],
    subtitle: str = "",
    frames_per_clip: int = FRAMES_PER_CLIP,
    scale: int | None = None,
) -> Image.Image:
    """Rows of prompts; per row one clip under each heading, so that eyes can compare them.

    Args:
        headings: one per clip of a row, such as ("before: base", "after: family").
        frames_per_clip: how many evenly spaced frames of each clip are shown.
        scale: how often a pixel is repeated; None: twice, less where frames are large.

    Raises:
        InputError: no rows, or rows whose clips or markers do not fit the headings.
    """
    _check(rows, len(headings))
    scale = sheet_scale(rows[0].clips[0], 2) if scale is None else scale
    height, width = rows[0].clips[0].shape[1:3]
    shown = min(frames_per_clip, *(len(clip) for row in rows for clip in row.clips))
    grid = _Grid(len(headings), shown, height * scale, width * scale)
    top = _heading_height(subtitle)
    page = Image.new(
        "RGB", (grid.page_width, top + sum(map(grid.row_height, rows)) + MARGIN), PAPER
    )
    draw = ImageDraw.Draw(page)
    _draw_heading(draw, grid, title, subtitle, headings)
    for row in rows:
        _draw_row(page, draw, grid, row, top, scale)
        top += grid.row_height(row)
    return page


def evenly_spaced(frames: Frames, count: int) -> Frames:
    """`count` frames from first to last; uint8 [count, H, W, 3]."""
    indices = np.linspace(0, len(frames) - 1, count).round().astype(int)
    return np.take(frames, indices, axis=0)


def _check(rows: Sequence[SheetRow], columns: int) -> None:
    if not rows or not columns:
        raise InputError("a before/after sheet needs at least one row and one heading")
    sizes = {clip.shape[1:3] for row in rows for clip in row.clips}
    if len(sizes) > 1:
        raise InputError(f"the clips of one sheet must have one size, got {sorted(sizes)}")
    for row in rows:
        if len(row.clips) != columns or (row.markers and len(row.markers) != columns):
            raise InputError(f'the row "{row.label}" must have {columns} clips and markers')


def _heading_height(subtitle: str) -> int:
    return MARGIN + 40 + (26 if subtitle else 0) + 44


def _draw_heading(
    draw: ImageDraw.ImageDraw, grid: _Grid, title: str, subtitle: str, headings: Sequence[str]
) -> None:
    draw.text((MARGIN, MARGIN - 6), title, INK, _font(28), stroke_width=0.5)
    if subtitle:
        draw.text((MARGIN, MARGIN + 34), subtitle, FAINT, _font(16))
    baseline = _heading_height(subtitle) - 12
    for column, heading in enumerate(headings):
        draw.text(
            (grid.left(column), baseline), heading, INK, _font(19), anchor="ls", stroke_width=0.3
        )


def _draw_row(
    page: Image.Image,
    draw: ImageDraw.ImageDraw,
    grid: _Grid,
    row: SheetRow,
    top: int,
    scale: int,
) -> None:
    draw.line([(MARGIN, top), (grid.page_width - MARGIN, top)], RULE, 1)
    _draw_label(draw, row, top + ROW_PADDING)
    for column, clip in enumerate(row.clips):
        left = grid.left(column)
        for index, frame in enumerate(evenly_spaced(clip, grid.frames_per_clip)):
            position = (left + index * (grid.width + GAP), top + ROW_PADDING)
            page.paste(_enlarged(frame, scale), position)
        if row.markers:
            _paste_badge(page, row.markers[column], left, top + ROW_PADDING + grid.height + 8)


def _draw_label(draw: ImageDraw.ImageDraw, row: SheetRow, top: int) -> None:
    for text, colour, size, line_height in _label_lines(row):
        draw.text((MARGIN, top), text, colour, _font(size))
        top += line_height


def _label_height(row: SheetRow) -> int:
    return sum(line_height for *_, line_height in _label_lines(row))


def _label_lines(row: SheetRow) -> list[tuple[str, Colour, int, int]]:
    """Per line: text, colour, font size and line height in pixels."""
    label = [(line, INK, 18, 23) for line in textwrap.wrap(row.label, LABEL_CHARACTERS)]
    note = [(line, FAINT, 15, 20) for line in textwrap.wrap(row.note, LABEL_CHARACTERS + 4)]
    return label + note


def _paste_badge(page: Image.Image, marker: Marker, left: int, top: int) -> None:
    """A filled pill, drawn four times larger and shrunk so that its edge is smooth."""
    width = math.ceil(_font(15).getlength(marker.text)) + 24
    mask = Image.new("L", (4 * width, 4 * BADGE_HEIGHT), 0)
    outline = (0, 0, 4 * width - 1, 4 * BADGE_HEIGHT - 1)
    ImageDraw.Draw(mask).rounded_rectangle(outline, 2 * BADGE_HEIGHT, 255)
    page.paste(TONES[marker.tone], (left, top), mask.reduce(4))
    middle = (left + 12, top + BADGE_HEIGHT / 2)
    ImageDraw.Draw(page).text(middle, marker.text, PAPER, _font(15), anchor="lm")


def _enlarged(frame: Frames, scale: int) -> Image.Image:
    height, width = frame.shape[:2]
    return Image.fromarray(frame).resize((width * scale, height * scale), Image.Resampling.NEAREST)


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font: no font file has to be installed."""
    return ImageFont.load_default(size)
