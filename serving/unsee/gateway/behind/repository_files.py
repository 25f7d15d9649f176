"""Files of a model repository that may be shown: a revision's digest and report, the base's limits.

The paths are made of a policy's name from the settings and a revision's number from the pointer;
nothing that a caller sent is part of one. A file that is missing or broken is None.
"""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from unsee.evaluation.report.schema import PAGE_FILE, REPORT_FILE, SIGNATURE_FILE
from unsee.repository.base import Base, read_base
from unsee.repository.layout import base_file, revision_dir

LOGGER = logging.getLogger("unsee.gateway")
MAX_REPORT_BYTES = 64 * 1024 * 1024


def base_record(repository_dir: Path) -> Base | None:
    """The defaults and limits of the repository's base."""
    try:
        return read_base(base_file(repository_dir))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        LOGGER.error("the record of the base cannot be read: %s", " ".join(str(error).split()))
        return None


def report_files(repository_dir: Path, policy: str, revision: int) -> dict[Path, bytes]:
    """The report beside a revision's graph, its page and signature, each read once.

    Only ordinary files are read, and no links to other places.
    """
    folder = revision_dir(repository_dir, policy, revision)
    files = (folder / name for name in (REPORT_FILE, PAGE_FILE, SIGNATURE_FILE))
    return {file: content for file in files if (content := _ordinary(file)) is not None}


def _ordinary(file: Path) -> bytes | None:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        content = stream.read(MAX_REPORT_BYTES + 1)
    if len(content) > MAX_REPORT_BYTES:
        LOGGER.error("%s has more than %d bytes and is not shown", file, MAX_REPORT_BYTES)
        return None
    return content
