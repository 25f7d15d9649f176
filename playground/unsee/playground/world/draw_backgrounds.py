"""Backgrounds; each takes a generator so that no two are alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageDraw

from unsee.playground.world.pen import Colour


def vertical_gradient(size: int, top: Colour, bottom: Colour) -> Image.Image:
    ramp = np.linspace(0, 1, size)[:, None]
    column = np.array(top) * (1 - ramp) + np.array(bottom) * ramp
    pixels = np.broadcast_to(column[:, None, :], (size, size, 3))
    return Image.fromarray(np.ascontiguousarray(pixels).astype(np.uint8), "RGB")


def hills(
    size: int, level: float, height: float, waves: float, phase: float
) -> list[tuple[float, float]]:
    xs = np.linspace(0, size, 40)
    ys = level + height * np.sin(xs / size * waves * math.tau + phase)
    ridge = [(float(x), float(y)) for x, y in zip(xs, ys, strict=True)]
    return [*ridge, (size, size), (0, size)]


def draw_plain(size: int, rng: np.random.Generator) -> Image.Image:
    base = rng.integers(212, 246, 3)
    return Image.new("RGB", (size, size), (int(base[0]), int(base[1]), int(base[2])))


def draw_desert(size: int, rng: np.random.Generator) -> Image.Image:
    image = vertical_gradient(size, (255, 180, 95), (255, 232, 175))
    draw = ImageDraw.Draw(image)
    x, r = float(rng.uniform(0.1, 0.9)) * size, 0.09 * size
    draw.ellipse((x - r, 0.12 * size - r, x + r, 0.12 * size + r), fill=(255, 250, 215))
    for level, colour in ((0.62, (235, 180, 105)), (0.74, (215, 150, 75)), (0.87, (190, 120, 55))):
        phase = float(rng.uniform(0, math.tau))
        draw.polygon(hills(size, level * size, 0.05 * size, 1.0, phase), fill=colour)
    return image


def draw_ocean(size: int, rng: np.random.Generator) -> Image.Image:
    image = vertical_gradient(size, (150, 210, 250), (205, 238, 255))
    draw = ImageDraw.Draw(image)
    colours = ((35, 130, 205), (25, 105, 185), (15, 80, 160), (10, 60, 135))
    for i, colour in enumerate(colours):
        level = (0.42 + 0.16 * i) * size
        ridge = hills(size, level, 0.028 * size, 3.0, float(rng.uniform(0, math.tau)))
        draw.polygon(ridge, fill=colour)
        draw.line(ridge[:-2], fill=(225, 245, 255), width=max(1, size // 64))
    return image


def draw_forest(size: int, rng: np.random.Generator) -> Image.Image:
    image = vertical_gradient(size, (165, 205, 165), (70, 125, 75))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0.86 * size, size, size), fill=(45, 75, 35))
    for row, colour in enumerate(((45, 115, 65), (20, 75, 45))):
        shift = float(rng.uniform(0, 0.22))
        for i in range(-1, 6):
            x = (shift + 0.22 * i + 0.11 * row) * size
            top = (0.08 + 0.14 * row + float(rng.uniform(0, 0.12))) * size
            half = 0.125 * size
            draw.polygon([(x, top), (x + half, 0.9 * size), (x - half, 0.9 * size)], fill=colour)
    return image


def draw_city(size: int, rng: np.random.Generator) -> Image.Image:
    image = vertical_gradient(size, (135, 120, 170), (240, 180, 165))
    draw = ImageDraw.Draw(image)
    x = -float(rng.uniform(0, 0.1)) * size
    shade = 0
    while x < size:
        width = float(rng.uniform(0.15, 0.2)) * size
        top = float(rng.uniform(0.08, 0.4)) * size
        colour = ((75, 80, 105), (95, 95, 120))[shade % 2]
        draw.rectangle((x, top, x + width, size), fill=colour)
        cell = 0.1 * size
        for row in range(1, int((size - top) / cell)):
            for column in range(int(width / cell)):
                wx, wy = x + (column + 0.35) * cell, top + (row - 0.4) * cell
                draw.rectangle((wx, wy, wx + cell * 0.5, wy + cell * 0.5), fill=(225, 200, 120))
        x += width
        shade += 1
    draw.rectangle((0, 0.92 * size, size, size), fill=(55, 55, 65))
    return image


def draw_space(size: int, rng: np.random.Generator) -> Image.Image:
    image = vertical_gradient(size, (8, 8, 28), (38, 18, 70))
    draw = ImageDraw.Draw(image)
    for _ in range(42):
        x, y = rng.uniform(0, size, 2)
        r = float(rng.uniform(0.006, 0.014)) * size
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(250, 250, 230))
    x = float(rng.choice((0.13, 0.87))) * size
    y, r = float(rng.uniform(0.1, 0.2)) * size, 0.12 * size
    draw.ellipse((x - r, y - r, x + r, y + r), fill=(205, 130, 90))
    draw.ellipse(
        (x - 1.6 * r, y - 0.3 * r, x + 1.6 * r, y + 0.3 * r),
        outline=(240, 215, 165),
        width=size // 50,
    )
    return image


BACKGROUNDS: Mapping[str, Callable[[int, np.random.Generator], Image.Image]] = MappingProxyType(
    {
        "none": draw_plain,
        "desert": draw_desert,
        "ocean": draw_ocean,
        "forest": draw_forest,
        "city": draw_city,
        "space": draw_space,
    }
)
