"""The ffmpeg that writes MP4 files and reads back what they say of themselves."""

from __future__ import annotations

from shutil import which

from unsee.core.errors import InputError


def ffmpeg() -> str:
    """Its path: what IMAGEIO_FFMPEG_EXE names, else the one of imageio-ffmpeg, else the system's.

    Raises:
        InputError: there is none, or what is named cannot be run.
    """
    from imageio_ffmpeg import get_ffmpeg_exe

    try:
        program = str(get_ffmpeg_exe())
    except RuntimeError as error:
        raise InputError(
            "an .mp4 needs ffmpeg, and there is none; install it, or use another format"
        ) from error
    if which(program) is None:  # only a named one is not tried before
        raise InputError(
            f"an .mp4 needs ffmpeg, and {program} cannot be run; correct IMAGEIO_FFMPEG_EXE"
        )
    return program
