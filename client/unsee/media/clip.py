"""What the server streams: progress, parts of a clip on request, and in the end the clip."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unsee.core.errors import InputError
from unsee.core.record import GenerationRecord
from unsee.media.frames import Frames
from unsee.media.provenance import Provenance
from unsee.media.video_file import save_video


@dataclass(frozen=True)
class Progress:
    """The video model has been evaluated `step` times out of `num_inference_steps`.

    With an acceleration these are fewer than the request's steps.
    """

    step: int
    num_inference_steps: int


@dataclass(frozen=True, eq=False)
class Part:
    """Frames of a clip that is not finished, sent as soon as they were decoded.

    Args:
        frames: uint8 [n, height, width, 3], RGB, read-only.
        first_frame: where the first of them is in the clip, from 0.
        num_frames: how many frames the clip will have.
        fps: frames per second to play them at.
    """

    frames: Frames = field(repr=False)
    first_frame: int
    num_frames: int
    fps: float


@dataclass(frozen=True, eq=False)
class Clip:
    """A generated clip.

    Args:
        frames: uint8 [num_frames, height, width, 3], RGB, read-only when it came from a server.
        record: what made it.

    Raises:
        InputError: `frames` has another shape or dtype.
    """

    frames: Frames = field(repr=False)
    record: GenerationRecord

    def __post_init__(self) -> None:
        shape = self.frames.shape
        if self.frames.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape:
            raise InputError(
                f"a clip needs uint8 frames [num_frames, height, width, 3], "
                f"got {self.frames.dtype} {list(shape)}"
            )

    def save(self, path: Path | str, *, signer: Provenance | None = None) -> Path:
        """Writes the clip as the suffix says: .mp4, .gif, .webp (exact), .png (a contact sheet) or
        .npy (exact, with the record in a file beside it).

        Every file carries the record; `read_record` gives it back. The file appears whole or not at
        all; missing folders are made.

        Args:
            signer: signs the file, so that others can tell who made it and with what.

        Raises:
            InputError: the suffix is not known, the file cannot be written or cannot be signed.
        """
        return save_video(self.frames, self.record, Path(path), signer)
