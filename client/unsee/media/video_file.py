"""Writes clips as .mp4, .gif, .webp, .png (a contact sheet) or .npy.

In .mp4 and .gif small frames are enlarged without smoothing, so that a player shows the pixels as
they are; .webp and .npy are exact. `metadata` makes what a file says of the clip's making.
"""

from __future__ import annotations

import errno
import math
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from stat import S_ISDIR
from typing import Any

import numpy as np

from unsee.core.errors import InputError
from unsee.core.files import new_file, not_writable
from unsee.core.record import GenerationRecord
from unsee.media.ffmpeg import ffmpeg
from unsee.media.frames import Frames, contact_sheet, enlarged
from unsee.media.metadata import as_exif, as_ffmetadata, as_json, as_xmp, png_text, sidecar_of
from unsee.media.provenance import Provenance

MIN_PLAYER_SIDE = 256
"""Pixels: players show a smaller video as a stamp."""
X264_CRF = 12
"""Constant rate factor: 0 is lossless, 18 is hardly told from the original, 51 is worst."""
MP4_FLAGS = ("-movflags", "+faststart")
"""The index comes first, so that a browser plays the file while it loads."""
_FFMPEG_PART = re.compile(r"^(\[[^\]]*\] ?)+")
"""What ffmpeg writes before a sentence: the part that speaks and its address in memory."""
JPEG_EXIF = b"Exif\0\0"
"""What precedes EXIF in a JPEG and nowhere else."""

Writer = Callable[[Frames, GenerationRecord, Path], None]


def check_destination(path: Path) -> Path:
    """Makes the folder of `path`, so that a long generation does not end in a wrong file name.

    Raises:
        InputError: the suffix is not known, the path cannot be a file's, the folder cannot be made
            or written to, or what writes the format is missing.
    """
    suffix = path.suffix.lower()
    _check_name(path)
    if suffix not in WRITERS:
        known = ", ".join(WRITERS)
        raise InputError(f"cannot tell the format of {path}: its suffix must be one of {known}")
    if suffix == ".npy":
        _check_name(sidecar_of(path))
    if suffix == ".mp4":
        ffmpeg()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {path.parent}: {error.strerror}") from error
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(f"cannot write {path}: no permission to write in {path.parent}")
    return path


def _check_name(path: Path) -> None:
    """Raises InputError for a folder, and for what the system takes for no path at all."""
    try:
        is_folder = S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    if is_folder:
        raise InputError(
            f"cannot write {path}: it is a folder; name a file, such as {path / 'clip.mp4'}"
        )


def save_video(
    frames: Frames, record: GenerationRecord, path: Path, signer: Provenance | None = None
) -> Path:
    """Writes a clip in the format of the suffix, with its record, whole or not at all.

    Raises:
        InputError: see `check_destination`; or the disk refused; or the file cannot be signed.
    """
    check_destination(path)
    suffix = path.suffix.lower()
    if signer is not None:
        signer.check(suffix)
    try:
        with new_file(path) as temporary:
            sidecar = sidecar_of(temporary)
            try:
                WRITERS[suffix](frames, record, temporary)
                if signer is not None:
                    with new_file(temporary) as signed:
                        signer.sign(temporary, signed, record)
                if suffix == ".npy":  # the record first: a clip never lies there without it
                    sidecar.replace(sidecar_of(path))
            finally:
                sidecar.unlink(missing_ok=True)
    except OSError as error:
        raise not_writable(path, error) from error
    return path


def encoded(frames: Frames, record: GenerationRecord, suffix: str) -> bytes:
    """The bytes of the file that `save_video` writes, for a format that has one file.

    Raises:
        InputError: as `save_video`; or there is no temporary folder to write it in.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="unsee-video-") as folder:
            return save_video(frames, record, Path(folder) / f"clip{suffix}").read_bytes()
    except OSError as error:
        raise InputError(
            f"there is no temporary folder to write a {suffix} file in: {error.strerror or error}"
        ) from error


def _write_mp4(frames: Frames, record: GenerationRecord, path: Path) -> None:
    """H.264 through the ffmpeg that imageio-ffmpeg brings.

    Started here and not by imageio, which forks: a fork beside gRPC's threads can hang. The record
    is in a file, as every account of a machine can read command lines.
    """
    pixels = _even_sided(_at_player_size(frames))
    height, width = pixels.shape[1:3]
    size, rate = f"{width}x{height}", f"{record.fps:g}"
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", rate]
    coded = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", str(X264_CRF)]
    command = [ffmpeg(), "-y", "-v", "error", *raw, "-i", "-"]
    record_file = path.with_suffix(".txt")  # beside it: a full /tmp would be told as a full disk
    tags = ["-f", "ffmetadata", "-i", f"file:{record_file}", "-map_metadata", "1"]
    try:
        record_file.write_bytes(as_ffmetadata(record))
        done = subprocess.run(
            [*command, *tags, *coded, *MP4_FLAGS, f"file:{path}"],
            input=pixels.tobytes(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        record_file.unlink(missing_ok=True)
    if done.returncode != 0:
        raise _encoder_failed(done.returncode, done.stderr.decode(errors="replace"))


def _encoder_failed(code: int, words: str) -> OSError:
    """What ffmpeg's exit code and its words on stderr mean: the system's own error, if it is one.

    ffmpeg puts the reason behind its own parts' names and addresses, on several lines.
    """
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EIO):
        if os.strerror(number) in words:
            return OSError(number, os.strerror(number))
    if code < 0:
        return OSError(f"the video encoder was ended by the signal {-code}; is there memory left?")
    lines = [_FFMPEG_PART.sub("", line).strip() for line in words.splitlines()]
    reason = next((line for line in lines if line), "it gave no reason")
    return OSError(f"the video encoder ended with exit code {code} ({reason[:120]})")


def _even_sided(frames: Frames) -> Frames:
    """yuv420p halves both sides, so odd ones get their last row or column twice."""
    odd = [(0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)]
    return np.pad(frames, odd, mode="edge")


def _at_player_size(frames: Frames) -> Frames:
    return enlarged(frames, math.ceil(MIN_PLAYER_SIDE / min(frames.shape[1:3])))


def _write_gif(frames: Frames, record: GenerationRecord, path: Path) -> None:
    _write_animation(_at_player_size(frames), record.fps, path, comment=as_json(record))


def _write_webp(frames: Frames, record: GenerationRecord, path: Path) -> None:
    exif = as_exif(record).tobytes().removeprefix(JPEG_EXIF)
    _write_animation(frames, record.fps, path, lossless=True, xmp=as_xmp(record), exif=exif)


def _write_animation(frames: Frames, fps: float, path: Path, **options: Any) -> None:
    from PIL import Image

    first, *rest = [Image.fromarray(frame) for frame in frames]
    duration_ms = round(1000 / fps)
    first.save(path, save_all=True, append_images=rest, duration=duration_ms, loop=0, **options)


def _write_png(frames: Frames, record: GenerationRecord, path: Path) -> None:
    from PIL import Image

    text, exif = png_text(record), as_exif(record)
    Image.fromarray(contact_sheet(frames)).save(path, pnginfo=text, exif=exif)


def _write_npy(frames: Frames, record: GenerationRecord, path: Path) -> None:
    with path.open("wb") as file:  # to a name that ends with .NPY it would add another .npy
        np.save(file, frames, allow_pickle=False)
    sidecar_of(path).write_bytes(as_json(record) + b"\n")


WRITERS: Mapping[str, Writer] = {
    ".mp4": _write_mp4,
    ".gif": _write_gif,
    ".png": _write_png,
    ".npy": _write_npy,
    ".webp": _write_webp,
}
