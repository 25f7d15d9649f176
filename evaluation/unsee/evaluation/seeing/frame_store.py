"""Frames on disk under the digest of everything that they were made from.

Any number of reports share one store.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unsee.core.files import write_file

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class FrameStore:
    """One `.npy` file per key, below a folder for the key's first two digits."""

    folder: Path

    def get(self, key: str, shape: tuple[int, ...]) -> Frames | None:
        """The frames under `key`, uint8 of `shape`; None if absent, damaged or of another shape."""
        try:
            frames = np.load(self._file(key), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        if not isinstance(frames, np.ndarray):
            return None
        return frames if frames.dtype == np.uint8 and frames.shape == shape else None

    def put(self, key: str, frames: Frames) -> None:
        """Keep `frames` under `key`, complete or not at all."""
        content = io.BytesIO()
        np.save(content, frames, allow_pickle=False)
        write_file(self._file(key), content.getvalue())

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npy"
