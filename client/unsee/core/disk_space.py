"""Whether a folder has room for what is to be written there; knows nothing of what it is."""

import shutil
from pathlib import Path

from unsee.core.errors import RepositoryError

_GB = 1e9


def check_disk_space(folder: Path, num_bytes: int, what: str) -> None:
    """Raise `RepositoryError` unless `num_bytes` for `what` fit into `folder`, which is there."""
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise RepositoryError(
            f"{what} needs {num_bytes / _GB:.1f} GB in {folder}, where {free / _GB:.1f} GB are "
            "free; make room or choose another folder"
        )
