"""One process at a time adds or removes revisions of a policy; the next one learns who does.

Promoting and rolling back do not wait for it: they change nothing but the pointer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from unsee.core.files import lock, not_writable
from unsee.repository.layout import LOCKS_DIR


@contextmanager
def alone(repository_dir: Path, policy: str, command: str) -> Iterator[None]:
    """Be the only one at work on the revisions of `policy` in the block, for `command`.

    The lock ends with the process, however it ends.

    Raises:
        Locked: another process is; the message says who, since when and with which command.
        FileNotWritable: the lock file cannot be written.
    """
    file = repository_dir / LOCKS_DIR / policy
    try:
        file.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise not_writable(file, error) from error
    now = datetime.now(UTC).isoformat(timespec="seconds")
    command = f"unsee {command}, process {os.getpid()}, since {now}"
    with lock(file, command=command, what=f'the policy "{policy}"'):
        yield
