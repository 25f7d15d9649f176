"""Writes frames as .mp4, .gif, .png (a contact sheet) or .npy; knows nothing of how they were made.

Small frames are enlarged without smoothing, so that a player shows the pixels as they are.
"""

from __future__ import annotations

import math
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from unsee.client.clip import Frames
from unsee.client.errors import InputError

MIN_PLAYER_SIDE = 256
"""Pixels: players show a smaller video as a stamp."""
X264_CRF = 12
"""Constant rate factor: 0 is lossless, 18 is hardly told from the original, 51 is worst."""
MP4_FLAGS = ("-movflags", "+faststart")
"""The index comes first, so that a browser plays the file while it loads."""

Writer = Callable[[Frames, float, Path], None]


def check_destination(path: Path) -> Path:
    """Makes the folder of `path`, so that a long generation does not end in a wrong file name.

    Raises:
        InputError: the suffix is not known, or the folder cannot be made or written to.
    """
    if path.suffix.lower() not in WRITERS:
        known = ", ".join(WRITERS)
        raise InputError(f"cannot tell the format of {path}: its suffix must be one of {known}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {path.parent}: {error.strerror}") from error
    if path.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        reason = "it is a folder" if path.is_dir() else f"no permission to write in {path.parent}"
        raise InputError(f"cannot write {path}: {reason}")
    return path


def save_video(frames: Frames, fps: float, path: Path) -> Path:
    """Writes `frames` (uint8 [F, H, W, 3]) in the format of the suffix, whole or not at all.

    Raises:
        InputError: see `check_destination`; or the disk refused.
    """
    check_destination(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix.lower()}")
    try:
        WRITERS[path.suffix.lower()](frames, fps, temporary)
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def enlarged(frames: Frames, factor: int) -> Frames:
    """Each pixel becomes a square of `factor` × `factor`."""
    return frames.repeat(factor, axis=1).repeat(factor, axis=2)


def _write_mp4(frames: Frames, fps: float, path: Path) -> None:
    """H.264 through the ffmpeg that imageio-ffmpeg brings.

    Started here and not by imageio, which forks: a fork beside gRPC's threads can hang.
    """
    from imageio_ffmpeg import get_ffmpeg_exe

    factor = math.ceil(MIN_PLAYER_SIDE / min(frames.shape[1:3]))
    pixels = _even_sided(enlarged(frames, factor))
    height, width = pixels.shape[1:3]
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:g}"]
    coded = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", str(X264_CRF)]
    done = subprocess.run(
        [get_ffmpeg_exe(), "-y", "-v", "error", *raw, "-i", "-", *coded, *MP4_FLAGS, str(path)],
        input=pixels.tobytes(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode != 0:
        raise OSError(f"ffmpeg failed: {done.stderr.decode(errors='replace').strip()[-200:]}")


def _even_sided(frames: Frames) -> Frames:
    """yuv420p halves both sides, so odd ones get their last row or column twice."""
    odd = [(0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)]
    return np.pad(frames, odd, mode="edge")


def _write_gif(frames: Frames, fps: float, path: Path) -> None:
    from PIL import Image

    factor = math.ceil(MIN_PLAYER_SIDE / min(frames.shape[1:3]))
    first, *rest = [Image.fromarray(frame) for frame in enlarged(frames, factor)]
    duration_ms = round(1000 / fps)
    first.save(path, save_all=True, append_images=rest, duration=duration_ms, loop=0)


def _write_png(frames: Frames, fps: float, path: Path) -> None:
    from unsee.client.sheet import contact_sheet

    contact_sheet(frames).save(path)


def _write_npy(frames: Frames, fps: float, path: Path) -> None:
    np.save(path, frames, allow_pickle=False)


WRITERS: Mapping[str, Writer] = {
    ".mp4": _write_mp4,
    ".gif": _write_gif,
    ".png": _write_png,
    ".npy": _write_npy,
}
