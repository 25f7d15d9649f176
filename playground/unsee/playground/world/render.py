"""Draws a scene: background, moving subject, then the style over the whole frame."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from unsee.playground.world.draw_backgrounds import BACKGROUNDS
from unsee.playground.world.draw_characters import CHARACTERS
from unsee.playground.world.draw_objects import OBJECTS
from unsee.playground.world.draw_people import PEOPLE
from unsee.playground.world.pen import Pen
from unsee.playground.world.styles import STYLES
from unsee.playground.world.world import FRAME_SIZE, NUM_FRAMES, Nuisance, Scene

SUPERSAMPLING = 3
Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Pose:
    """Where the subject is in one frame; lengths are fractions of the frame."""

    x: float
    y: float
    scale: float
    angle_deg: float


@cache
def sprite(subject: str) -> Image.Image:
    """The subject on a transparent square, premultiplied ready for resampling."""
    pen = Pen()
    {**CHARACTERS, **OBJECTS, **PEOPLE}[subject](pen)
    return pen.sprite()


def pose_at(action: str | None, nuisance: Nuisance, progress: float) -> Pose:
    """The pose at ``progress``: 0 at the first frame, 1 at the last."""
    n = nuisance
    x, y, scale, angle = n.x, n.y, n.scale, n.tilt_deg
    x += n.drift_x * progress
    y += n.drift_y * progress
    if action == "jumping":
        bounce = abs(math.sin(math.pi * (2 * n.speed * progress + n.phase)))
        y = y + 0.13 - 0.32 * bounce
    elif action == "spinning":
        angle += 360 * n.direction * (progress * n.speed + n.phase)
    elif action == "sliding":
        x = 0.5 + n.direction * 0.3 * (2 * progress - 1)
    elif action == "falling":
        y = 0.14 + 0.72 * progress
    elif action == "growing":
        scale *= 0.45 + 0.75 * progress
    elif action == "shaking":
        x += 0.12 * (1 if int(7.99 * progress) % 2 == 0 else -1) * n.direction
    return Pose(x, y, scale, angle)


def place(canvas: Image.Image, subject: str, pose: Pose) -> None:
    """Pastes the subject, rotated and scaled about its centre."""
    size = canvas.width
    source = sprite(subject)
    ratio = source.width / (pose.scale * size)
    cos, sin = (f(math.radians(pose.angle_deg)) * ratio for f in (math.cos, math.sin))
    cx, cy, half = pose.x * size, pose.y * size, source.width / 2
    affine = (cos, sin, half - cos * cx - sin * cy, -sin, cos, half + sin * cx - cos * cy)
    layer = source.transform(
        (size, size), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR
    )
    canvas.paste(layer, (0, 0), layer)


def finish(canvas: Image.Image, style: str | None) -> Frames:
    frame = np.asarray(canvas.reduce(SUPERSAMPLING), dtype=np.float32) / 255
    if style is not None:
        frame = STYLES[style](frame)
    return (np.clip(frame, 0, 1) * 255 + 0.5).astype(np.uint8)


def render_clip(
    scene: Scene, num_frames: int = NUM_FRAMES, moments: tuple[float, ...] | None = None
) -> Frames:
    """Draws a clip: uint8 [num_frames, 64, 64, 3].

    ``moments`` gives the progress of each frame (0 to 1) in place of even steps.
    """
    rng = np.random.default_rng(scene.nuisance.background_seed)
    backdrop = BACKGROUNDS[scene.label("background")](FRAME_SIZE * SUPERSAMPLING, rng)
    times = moments or tuple(i / max(1, num_frames - 1) for i in range(num_frames))
    frames = []
    for progress in times:
        canvas = backdrop.copy()
        if scene.subject is not None:
            place(canvas, scene.subject, pose_at(scene.action, scene.nuisance, progress))
        frames.append(finish(canvas, scene.style))
    return np.stack(frames)


def render_still(scene: Scene, progress: float = 0.0) -> Frames:
    """Draws one moment of a scene: uint8 [64, 64, 3]."""
    frame: Frames = render_clip(scene, moments=(progress,))[0]
    return frame


def contact_sheet(images: Frames, columns: int, zoom: int = 1) -> Image.Image:
    """Tiles uint8 [N, H, W, 3] into one picture, row by row."""
    count, height, width, _ = images.shape
    rows = -(-count // columns)
    sheet = np.full((rows * height, columns * width, 3), 255, dtype=np.uint8)
    for i, image in enumerate(images):
        y, x = i // columns * height, i % columns * width
        sheet[y : y + height, x : x + width] = image
    picture = Image.fromarray(sheet, "RGB")
    return picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)
