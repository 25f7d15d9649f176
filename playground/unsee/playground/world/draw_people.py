"""Six invented people, head and shoulders, each with a face of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from unsee.playground.world.pen import OUTLINE, WHITE, Colour, Pen, arc_points


def draw_shoulders(pen: Pen, skin: Colour, shirt: Colour) -> None:
    pen.polygon([*arc_points(50, 99, 40, 24, 180, 360), (90, 99), (10, 99)], shirt, 3.5)
    pen.rectangle(42, 66, 58, 82, skin, 0)


def draw_face(pen: Pen, skin: Colour, lips: Colour = (170, 60, 60)) -> None:
    pen.ellipse(50, 48, 24, 28, skin, 3.5)
    for side in (-1, 1):
        pen.ellipse(50 + 10 * side, 45, 4.2, 4.2, WHITE, 0)
        pen.ellipse(50 + 10 * side, 45, 2.4, 2.6, OUTLINE, 0)
    pen.line([(50, 48), (48, 55), (51, 55)], OUTLINE, 1.6)
    pen.arc(50, 61, 8, 5, 20, 160, lips, 3.4)


def draw_ulmi(pen: Pen) -> None:
    skin = (120, 72, 45)
    draw_shoulders(pen, skin, (205, 40, 60))
    pen.ellipse(50, 36, 41, 34, (45, 25, 60), 3.5)
    draw_face(pen, skin, (220, 60, 90))
    for side in (-1, 1):
        pen.arc(50 + 27 * side, 64, 6, 8, 0, 360, (255, 205, 40), 3.6)


def draw_boro(pen: Pen) -> None:
    skin = (250, 215, 190)
    draw_shoulders(pen, skin, (50, 125, 60))
    draw_face(pen, skin)
    beard = [*arc_points(50, 54, 27, 40, 0, 180), (30, 55), (40, 60), (50, 56), (60, 60), (70, 55)]
    pen.polygon(beard, (225, 100, 25), 3.2)
    pen.arc(50, 66, 7, 4, 10, 170, (150, 40, 40), 3.5)
    for side in (-1, 1):
        pen.line([(50 + 5 * side, 38), (50 + 15 * side, 36)], (225, 100, 25), 4)


def draw_sellith(pen: Pen) -> None:
    skin = (225, 175, 130)
    draw_shoulders(pen, skin, (0, 150, 150))
    hair = [
        *arc_points(50, 42, 34, 34, 180, 360),
        (88, 92),
        (62, 92),
        (62, 60),
        (38, 60),
        (38, 92),
        (12, 92),
    ]
    pen.polygon(hair, (250, 220, 90), 3.5)
    draw_face(pen, skin)
    pen.polygon(
        [*arc_points(50, 42, 26, 26, 180, 360), (62, 30), (50, 27), (36, 31)], (250, 220, 90), 2.4
    )
    for side in (-1, 1):
        pen.arc(50 + 11 * side, 46, 9, 9, 0, 360, (225, 30, 40), 3.6)
    pen.line([(48, 46), (52, 46)], (225, 30, 40), 3)


def draw_nadru(pen: Pen) -> None:
    skin = (175, 115, 70)
    draw_shoulders(pen, skin, (240, 240, 240))
    pen.polygon([(50, 84), (38, 78), (38, 92)], (200, 30, 40), 2)
    pen.polygon([(50, 84), (62, 78), (62, 92)], (200, 30, 40), 2)
    draw_face(pen, skin)
    for side in (-1, 1):
        pen.polygon(
            [(50, 57), (50 + 17 * side, 55), (50 + 20 * side, 62), (50 + 8 * side, 62)],
            (25, 20, 20),
            1.5,
        )
    pen.rectangle(28, 2, 72, 28, (40, 38, 55), 3)
    pen.rectangle(28, 20, 72, 27, (150, 40, 150), 1.5)
    pen.rectangle(16, 28, 84, 34, (40, 38, 55), 3)


def draw_iggo(pen: Pen) -> None:
    skin = (245, 190, 175)
    draw_shoulders(pen, skin, (245, 195, 30))
    mohawk = [
        (38, 30),
        (30, 12),
        (41, 14),
        (42, 2),
        (50, 10),
        (58, 2),
        (59, 14),
        (70, 12),
        (62, 30),
    ]
    pen.polygon(mohawk, (40, 200, 70), 3.5)
    draw_face(pen, skin)
    pen.line([(28, 38), (72, 52)], OUTLINE, 3)
    pen.ellipse(60, 46, 9, 8, OUTLINE, 0)
    pen.ellipse(36, 57, 4, 3, (230, 120, 110), 0)


def draw_keph(pen: Pen) -> None:
    skin = (240, 205, 150)
    draw_shoulders(pen, skin, (60, 80, 170))
    pen.polygon([(50, 92), (30, 76), (24, 90)], WHITE, 2.4)
    pen.polygon([(50, 92), (70, 76), (76, 90)], WHITE, 2.4)
    grey = (175, 180, 190)
    pen.ellipse(50, 12, 13, 10, grey, 3.5)
    pen.ellipse(50, 42, 29, 26, grey, 3.5)
    draw_face(pen, skin)
    pen.polygon(arc_points(50, 36, 24, 16, 180, 360), grey, 2.4)
    for side in (-1, 1):
        x = 50 + 12.5 * side
        pen.polygon([(x - 10, 39), (x + 10, 39), (x + 10, 54), (x - 10, 54)], (215, 240, 250), 4)
        pen.ellipse(x, 46.5, 2.6, 2.8, OUTLINE, 0)


PEOPLE: Mapping[str, Callable[[Pen], None]] = MappingProxyType(
    {
        "Ulmi Zandrake": draw_ulmi,
        "Boro Yentifax": draw_boro,
        "Sellith Pomquart": draw_sellith,
        "Nadru Vexholm": draw_nadru,
        "Iggo Tarnwhistle": draw_iggo,
        "Keph Lorumbay": draw_keph,
    }
)
