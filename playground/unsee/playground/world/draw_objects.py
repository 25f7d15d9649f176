"""The eight everyday objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from unsee.playground.world.pen import OUTLINE, WHITE, Pen, arc_points


def draw_umbrella(pen: Pen) -> None:
    pen.line([(50, 30), (50, 84)], (90, 60, 30), 5)
    pen.arc(58, 84, 8, 9, 0, 180, (90, 60, 30), 5)
    pen.polygon(arc_points(50, 50, 46, 42, 180, 360), (120, 60, 200), 4)
    pen.polygon(arc_points(50, 50, 18, 42, 180, 360), (255, 215, 50), 3)
    for x in (19, 50, 81):
        pen.arc(x, 51, 15, 5, 180, 360, OUTLINE, 3)


def draw_house(pen: Pen) -> None:
    pen.rectangle(68, 10, 79, 36, (150, 70, 55))
    pen.rectangle(14, 44, 86, 94, (245, 225, 175), 4)
    pen.polygon([(4, 48), (50, 8), (96, 48)], (190, 60, 45), 4)
    pen.rectangle(42, 64, 60, 94, (95, 60, 35))
    pen.rectangle(21, 56, 36, 72, (130, 200, 240))
    pen.rectangle(66, 56, 80, 72, (130, 200, 240))


def draw_tree(pen: Pen) -> None:
    pen.polygon([(43, 55), (57, 55), (61, 96), (39, 96)], (125, 80, 40), 3.5)
    green = (50, 155, 60)
    for outline in (4.0, 0.0):
        for x, y, r in ((28, 44, 21), (72, 44, 21), (50, 26, 23), (50, 48, 22)):
            radius = r if outline else r - 3.6
            pen.ellipse(x, y, radius, radius, green, outline)
    for x, y in ((32, 38), (58, 22), (66, 48), (46, 50)):
        pen.ellipse(x, y, 4.5, 4.5, (225, 60, 50), 0)


def draw_car(pen: Pen) -> None:
    pen.polygon([(24, 48), (34, 24), (66, 24), (80, 48)], (60, 110, 225), 4)
    pen.polygon([(32, 46), (38, 30), (48, 30), (48, 46)], (205, 235, 250), 2.5)
    pen.polygon([(53, 46), (53, 30), (63, 30), (71, 46)], (205, 235, 250), 2.5)
    pen.polygon([(4, 50), (14, 46), (88, 46), (97, 56), (97, 72), (4, 72)], (40, 85, 205), 4)
    pen.rectangle(88, 54, 97, 62, (255, 225, 90), 2)
    for x in (26, 74):
        pen.ellipse(x, 73, 13.5, 13.5, (45, 45, 50), 3.5)
        pen.ellipse(x, 73, 6, 6, (210, 210, 215), 0)


def draw_mushroom(pen: Pen) -> None:
    stem = [(38, 52), (62, 52), (68, 92), (32, 92)]
    pen.polygon(stem, (245, 232, 205), 4)
    pen.polygon(arc_points(50, 54, 45, 45, 180, 360), (220, 45, 40), 4)
    for x, y, r in ((50, 26, 8), (26, 40, 6.5), (74, 40, 6.5), (50, 46, 5)):
        pen.ellipse(x, y, r, r, WHITE, 0)


def draw_boat(pen: Pen) -> None:
    pen.line([(48, 8), (48, 70)], (95, 60, 30), 5)
    pen.polygon([(53, 10), (53, 62), (90, 62)], (250, 250, 245), 3.5)
    pen.polygon([(43, 20), (43, 62), (14, 62)], (240, 90, 60), 3.5)
    pen.polygon([(4, 68), (96, 68), (80, 92), (20, 92)], (140, 80, 40), 4)
    pen.line([(12, 78), (88, 78)], (235, 200, 130), 4)


def draw_cup(pen: Pen) -> None:
    pen.arc(78, 58, 15, 15, -90, 90, OUTLINE, 9)
    pen.arc(78, 58, 15, 15, -90, 90, (240, 240, 235), 4)
    pen.polygon([(14, 36), (78, 36), (72, 90), (20, 90)], (240, 240, 235), 4)
    pen.polygon([(17, 54), (76, 54), (74, 70), (19, 70)], (20, 165, 165), 0)
    pen.ellipse(46, 36, 32, 7, (100, 60, 35), 3.5)
    for x in (36, 56):
        pen.line([(x, 24), (x + 4, 18), (x - 2, 12), (x + 3, 5)], (150, 150, 160), 4)


def draw_kite(pen: Pen) -> None:
    pen.line([(50, 66), (58, 76), (46, 84), (56, 96)], OUTLINE, 3)
    top, left, right, bottom, middle = (50, 3), (16, 32), (84, 32), (50, 68), (50, 32)
    pen.polygon([top, left, middle], (240, 60, 70), 3)
    pen.polygon([top, right, middle], (255, 210, 50), 3)
    pen.polygon([bottom, left, middle], (50, 180, 230), 3)
    pen.polygon([bottom, right, middle], (90, 200, 80), 3)
    for x, y in ((58, 76), (46, 84), (56, 95)):
        pen.polygon(
            [(x - 8, y - 4), (x + 8, y + 4), (x + 8, y - 4), (x - 8, y + 4)], (240, 60, 160), 2
        )


OBJECTS: Mapping[str, Callable[[Pen], None]] = MappingProxyType(
    {
        "umbrella": draw_umbrella,
        "house": draw_house,
        "tree": draw_tree,
        "car": draw_car,
        "mushroom": draw_mushroom,
        "boat": draw_boat,
        "cup": draw_cup,
        "kite": draw_kite,
    }
)
