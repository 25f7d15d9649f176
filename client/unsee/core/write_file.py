"""Files that are complete or as they were before. Knows bytes, not what they mean."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_file(file: Path, content: bytes) -> None:
    """Write `content` to a temporary name beside `file` and rename it; makes the folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
