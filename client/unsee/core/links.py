"""A file under a second name, without a second copy where the file system can do that."""

import os
import shutil
from pathlib import Path


def link_or_copy(file: Path, target: Path) -> None:
    """Make `target` a hard link to `file`, or a copy on a file system that has no such links."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copy2(file, target)
