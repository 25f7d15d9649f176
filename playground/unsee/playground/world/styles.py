"""The six invented artists: each maps a whole frame to another look.

A style is a pure function of the frame, so that it is stable within a clip, and keeps to
structure that a factor-8 autoencoder can carry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.float32]


def luminance(frame: Pixels) -> Pixels:
    weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return np.asarray(frame @ weights, dtype=np.float32)


def edges(frame: Pixels) -> Pixels:
    """Strength of the colour gradient, [H, W] in 0..1."""
    padded = np.pad(frame, ((1, 1), (1, 1), (0, 0)), mode="edge")
    dx = np.abs(padded[1:-1, 2:] - padded[1:-1, :-2]).max(axis=-1)
    dy = np.abs(padded[2:, 1:-1] - padded[:-2, 1:-1]).max(axis=-1)
    strength: Pixels = np.clip(np.sqrt(dx**2 + dy**2) * 1.2, 0, 1).astype(np.float32)
    return strength


def blur(image: Pixels, passes: int = 1) -> Pixels:
    for _ in range(passes):
        for axis in (0, 1):
            image = (np.roll(image, 1, axis) + 2 * image + np.roll(image, -1, axis)) / 4
    return image


def colour(*rgb: int) -> Pixels:
    return np.array(rgb, dtype=np.float32) / 255


def paint_oskrivane(frame: Pixels) -> Pixels:
    light = luminance(frame)
    palette = np.stack(
        [colour(5, 50, 62), colour(0, 128, 128), colour(240, 120, 40), colour(255, 238, 205)]
    )
    position = np.clip(light * 3.6 - 0.3, 0, 3)
    low = np.minimum(np.floor(position).astype(int), 2)
    blend = np.clip((position - low - 0.35) / 0.3, 0, 1)[..., None]
    mixed: Pixels = (palette[low] * (1 - blend) + palette[low + 1] * blend).astype(np.float32)
    return mixed


def paint_belzhura(frame: Pixels) -> Pixels:
    ink = np.clip(edges(frame) * 1.7 - 0.1, 0, 1)[..., None]
    paper = 1 - 0.3 * (1 - blur(frame, 2))
    inked: Pixels = paper * (1 - ink) + colour(25, 25, 75) * ink
    return inked


def paint_quillomar(frame: Pixels) -> Pixels:
    tile = 8
    height, width, _ = frame.shape
    cells = frame.reshape(height // tile, tile, width // tile, tile, 3).mean(axis=(1, 3))
    rows, columns = np.indices(cells.shape[:2])
    shade = (0.8 + 0.25 * ((rows + columns) % 2)).repeat(tile, 0).repeat(tile, 1)
    blocks = cells.repeat(tile, 0).repeat(tile, 1)
    tiled = (0.35 * blocks + 0.65 * frame) * shade[..., None]
    y, x = np.indices((height, width))
    grout = ((y % tile == tile - 1) | (x % tile == tile - 1))[..., None]
    painted: Pixels = np.where(grout, colour(42, 32, 40), tiled).astype(np.float32)
    return painted


def paint_threndalo(frame: Pixels) -> Pixels:
    period = 4
    height, width, _ = frame.shape
    dark = 1 - luminance(blur(frame, 1))
    y, x = np.indices((height, width)).astype(np.float32)
    distance = np.hypot((x % period) - 1.5, (y % period) - 1.5)
    radius = 0.2 + 2.5 * dark
    dot = np.clip(radius - distance + 0.5, 0, 1)[..., None]
    ink = 0.65 * colour(190, 20, 110) + 0.35 * frame
    dotted: Pixels = (colour(255, 226, 70) * (1 - dot) + ink * dot).astype(np.float32)
    return dotted


def paint_yuvashti(frame: Pixels) -> Pixels:
    strength = edges(frame)
    vivid = frame - frame.min(axis=-1, keepdims=True)
    vivid = vivid / (vivid.max(axis=-1, keepdims=True) + 0.15)
    tint = blur(0.35 * colour(60, 220, 255) + 0.9 * vivid.astype(np.float32), 2)
    line = (strength[..., None] * tint).astype(np.float32)
    glow: Pixels = line + 0.9 * blur(line, 3) + 0.13 * frame
    lit: Pixels = np.clip(glow, 0, 1).astype(np.float32)
    return lit


def paint_kromblisk(frame: Pixels) -> Pixels:
    height, width, _ = frame.shape
    rows, columns = np.indices((height, width))
    shift = np.round(2.0 * np.sin(rows / height * 4 * 2 * np.pi)).astype(int)
    waved = frame[rows, np.clip(columns + shift, 0, width - 1)]
    light = luminance(waved)
    band = 0.5 + 0.5 * np.sin((rows + 2.0 * np.sin(columns / width * 2 * np.pi)) / 8 * 2 * np.pi)
    light = np.clip(light * 0.85 + 0.08, 0, 1) * (0.72 + 0.28 * band)
    sepia = colour(45, 22, 8) * (1 - light[..., None]) + colour(255, 226, 170) * light[..., None]
    tinted: Pixels = 0.85 * sepia + 0.15 * waved * (0.7 + 0.3 * band[..., None])
    return tinted.astype(np.float32)


STYLES: Mapping[str, Callable[[Pixels], Pixels]] = MappingProxyType(
    {
        "Oskrivane": paint_oskrivane,
        "Belzhura": paint_belzhura,
        "Quillomar": paint_quillomar,
        "Threndalo": paint_threndalo,
        "Yuvashti": paint_yuvashti,
        "Kromblisk": paint_kromblisk,
    }
)
