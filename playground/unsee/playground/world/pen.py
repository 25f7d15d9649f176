"""A pen that draws outlined shapes on a square sprite in units of 0 to 100."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]
OUTLINE: Colour = (28, 22, 38)
WHITE: Colour = (250, 250, 250)


class Pen:
    """Draws at ``resolution`` pixels a side; ``sprite`` gives it smoothed at half that."""

    def __init__(self, resolution: int = 384) -> None:
        self.unit = resolution / 100
        self.image = Image.new("RGBA", (resolution, resolution), (0, 0, 0, 0))
        self.draw = ImageDraw.Draw(self.image)

    def ellipse(
        self, cx: float, cy: float, rx: float, ry: float, fill: Colour, outline: float = 3.2
    ) -> None:
        u = self.unit
        box = ((cx - rx) * u, (cy - ry) * u, (cx + rx) * u, (cy + ry) * u)
        if outline:
            self.draw.ellipse(box, fill=fill, outline=OUTLINE, width=round(outline * u))
        else:
            self.draw.ellipse(box, fill=fill)

    def polygon(self, points: Sequence[Point], fill: Colour, outline: float = 3.2) -> None:
        u = self.unit
        scaled = [(x * u, y * u) for x, y in points]
        self.draw.polygon(scaled, fill=fill)
        if outline:
            self.line([*points, points[0]], OUTLINE, outline)

    def rectangle(
        self, x0: float, y0: float, x1: float, y1: float, fill: Colour, outline: float = 3.2
    ) -> None:
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], fill, outline)

    def line(self, points: Sequence[Point], fill: Colour = OUTLINE, width: float = 3.2) -> None:
        u = self.unit
        scaled = [(x * u, y * u) for x, y in points]
        self.draw.line(scaled, fill=fill, width=round(width * u), joint="curve")
        r = width * u / 2
        for x, y in scaled:
            self.draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)

    def arc(
        self,
        cx: float,
        cy: float,
        rx: float,
        ry: float,
        start_deg: float,
        end_deg: float,
        fill: Colour = OUTLINE,
        width: float = 3.2,
    ) -> None:
        points = arc_points(cx, cy, rx, ry, start_deg, end_deg)
        self.line(points, fill, width)

    def eye(self, cx: float, cy: float, r: float, pupil: float = 0.5) -> None:
        self.ellipse(cx, cy, r, r, WHITE, 2.4)
        self.ellipse(cx, cy, r * pupil, r * pupil, OUTLINE, 0)

    def sprite(self) -> Image.Image:
        return self.image.reduce(2)


def arc_points(
    cx: float, cy: float, rx: float, ry: float, start_deg: float, end_deg: float, n: int = 24
) -> list[Point]:
    """Points on an ellipse; 0° points right and angles grow clockwise on the screen."""
    angles = [math.radians(start_deg + (end_deg - start_deg) * i / n) for i in range(n + 1)]
    return [(cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in angles]
