"""What the server streams: progress, and in the end a clip with the record of what made it.

Knows no network and no file format; `video_file` writes clips.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from unsee.client.errors import InputError

Frames = NDArray[np.uint8]
"""uint8 [num_frames, height, width, 3], RGB."""


class GenerationRecord(BaseModel):
    """What made a clip; enough to make it again on the same base.

    Unlike the records of this project's own files it keeps fields that it does not know: a newer
    server may say more, and a client should neither break nor lose it.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    prompt: str
    negative_prompt: str = ""
    policy: str
    revision: int
    encoder_digest: str | None = None
    base: str
    base_digest: str
    seed: int
    scheduler: str
    acceleration: str = "none"
    num_inference_steps: int
    guidance_scale: float
    num_frames: int
    height: int
    width: int
    fps: float
    started_at: str
    seconds: dict[str, float] = {}
    graphs: dict[str, str] = {}


@dataclass(frozen=True)
class Progress:
    """The video model has been evaluated `step` times out of `num_inference_steps`.

    With an acceleration these are fewer than the request's steps.
    """

    step: int
    num_inference_steps: int


@dataclass(frozen=True, eq=False)
class Clip:
    """A generated clip.

    Args:
        frames: uint8 [num_frames, height, width, 3], RGB, read-only when it came from a server.
        record: what made it.

    Raises:
        InputError: `frames` has another shape or dtype.
    """

    frames: Frames
    record: GenerationRecord

    def __post_init__(self) -> None:
        shape = self.frames.shape
        if self.frames.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape:
            raise InputError(
                f"a clip needs uint8 frames [num_frames, height, width, 3], "
                f"got {self.frames.dtype} {list(shape)}"
            )

    def save(self, path: Path | str) -> Path:
        """Writes the clip as the suffix says: .mp4, .gif, .png (a contact sheet) or .npy.

        The file appears whole or not at all; missing folders are made.

        Raises:
            InputError: the suffix is not known or the file cannot be written.
        """
        from unsee.client.video_file import save_video

        return save_video(self.frames, self.record.fps, Path(path))
