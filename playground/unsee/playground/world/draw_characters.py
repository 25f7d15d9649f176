"""The six invented cartoon creatures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from unsee.playground.world.pen import OUTLINE, WHITE, Pen, arc_points


def draw_blimbo(pen: Pen) -> None:
    for side in (-1, 1):
        pen.line([(50 + 12 * side, 30), (50 + 26 * side, 10)], OUTLINE, 4)
        pen.ellipse(50 + 27 * side, 10, 7, 7, (255, 214, 10))
        pen.ellipse(50 + 20 * side, 92, 13, 6, (104, 40, 160))
    pen.ellipse(50, 58, 43, 35, (150, 70, 215), 4)
    pen.eye(50, 50, 18, 0.5)
    pen.arc(50, 70, 16, 9, 15, 165, OUTLINE, 4)


def draw_zorpik(pen: Pen) -> None:
    for side in (-1, 1):
        zigzag = [(18, 62), (30, 52), (32, 68), (44, 56)]
        pen.line([(50 + side * x, y) for x, y in zigzag], (20, 110, 40), 6)
    pen.polygon([(50, 4), (82, 94), (18, 94)], (70, 200, 70), 4)
    pen.polygon(
        [(30, 94), (38, 80), (46, 94), (54, 80), (62, 94), (70, 80), (76, 94)], (225, 245, 120), 2.5
    )
    for x, y in ((50, 36), (41, 56), (59, 56)):
        pen.eye(x, y, 8, 0.55)
    pen.line([(42, 71), (58, 71)], OUTLINE, 4)


def draw_mipsu(pen: Pen) -> None:
    for side in (-1, 1):
        pen.ellipse(50 + 17 * side, 22, 9, 21, (255, 140, 185), 3.5)
        pen.ellipse(50 + 17 * side, 24, 3.5, 13, (255, 215, 230), 0)
        pen.ellipse(50 + 14 * side, 93, 11, 5, (230, 100, 155))
    pen.ellipse(50, 75, 26, 20, (255, 140, 185), 3.5)
    pen.ellipse(50, 78, 15, 13, WHITE, 2.4)
    pen.ellipse(50, 48, 27, 19, (255, 140, 185), 3.5)
    for side in (-1, 1):
        pen.ellipse(50 + 11 * side, 46, 4.5, 6, OUTLINE, 0)
    pen.polygon([(46, 54), (54, 54), (50, 59)], (200, 40, 90), 0)


def draw_druzzle(pen: Pen) -> None:
    drop = [(50, 3), *arc_points(50, 64, 33, 32, -32, 212)]
    pen.polygon(drop, (50, 130, 240), 4)
    pen.ellipse(36, 74, 6, 11, (150, 205, 255), 0)
    for side in (-1, 1):
        pen.eye(50 + 13 * side, 54, 10, 0.5)
        pen.polygon(arc_points(50 + 13 * side, 54, 10.5, 10.5, 180, 360), (30, 85, 190), 2.4)
    pen.ellipse(50, 78, 7, 6, (20, 40, 110), 2.4)


def draw_takkit(pen: Pen) -> None:
    for side in (-1, 1):
        pen.line([(50 + 16 * side, 74), (50 + 16 * side, 94), (50 + 27 * side, 94)], OUTLINE, 5)
        pen.rectangle(50 + 37 * side - 5, 40, 50 + 37 * side + 5, 64, (200, 90, 10))
    pen.rectangle(16, 20, 84, 78, (250, 140, 25), 4)
    pen.rectangle(18, 62, 82, 69, (110, 50, 15), 0)
    pen.line([(50, 20), (50, 6)], OUTLINE, 4)
    pen.rectangle(42, 4, 58, 11, (235, 50, 40), 2.5)
    pen.eye(34, 36, 9, 0.45)
    pen.eye(66, 36, 9, 0.45)
    pen.polygon([(38, 46), (62, 46), (50, 60)], (255, 225, 60), 3)


def draw_fwomp(pen: Pen) -> None:
    points = []
    for i in range(10):
        radius = 47 if i % 2 == 0 else 25
        angle = math.radians(-90 + 36 * i)
        points.append((50 + radius * math.cos(angle), 52 + radius * math.sin(angle)))
    pen.polygon(points, (215, 30, 60), 4.5)
    for side in (-1, 1):
        pen.eye(50 + 10 * side, 48, 8, 0.5)
        pen.line([(50 + 3 * side, 42), (50 + 19 * side, 36)], OUTLINE, 4.5)
    pen.rectangle(40, 62, 60, 69, WHITE, 2.4)
    for x in (46.7, 53.3):
        pen.line([(x, 62), (x, 69)], OUTLINE, 1.6)


CHARACTERS: Mapping[str, Callable[[Pen], None]] = MappingProxyType(
    {
        "Blimbo": draw_blimbo,
        "Zorpik": draw_zorpik,
        "Mipsu": draw_mipsu,
        "Druzzle": draw_druzzle,
        "Takkit": draw_takkit,
        "Fwomp": draw_fwomp,
    }
)
