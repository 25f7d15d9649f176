"""One process at a time adds or removes revisions of a policy; the next one is told who does.

Promoting and rolling back do not wait for it: they change nothing but the pointer.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from unsee.core.errors import PolicyBusy, RepositoryNotWritable
from unsee.repository.audit import user_at_host

LOCKS_DIR = ".locks"


@contextmanager
def alone(repository_dir: Path, policy: str, command: str) -> Iterator[None]:
    """Be the only one at work on the revisions of `policy` in the block, for `command`.

    The lock ends with the process, however it ends.

    Raises:
        PolicyBusy: another process is; the message says who, since when and with which command.
        RepositoryNotWritable: the lock file cannot be written.
    """
    file = repository_dir / LOCKS_DIR / policy
    try:
        file.parent.mkdir(exist_ok=True)
        lock = file.open("a+", encoding="utf-8")
    except OSError as error:
        raise RepositoryNotWritable(f"cannot write {file}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = file.read_text(encoding="utf-8").strip() or "another process"
            raise PolicyBusy(policy, holder) from error
        _write(file, lock.fileno(), _holder(command))
        yield


def _holder(command: str) -> str:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return f"{user_at_host()} (unsee {command}, process {os.getpid()}, since {now})"


def _write(file: Path, descriptor: int, text: str) -> None:
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, text.encode())
    except OSError as error:
        raise RepositoryNotWritable(f"cannot write {file}: {error.strerror}") from error
