"""Files and folders that appear in a model repository whole or not at all.

All is written under a temporary name on the same file system, synced, and renamed. Knows nothing
of what is in them.
"""

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UNFINISHED = ".unfinished-"
LOCK_FILE = ".write.lock"


def write_file(file: Path, data: bytes) -> bool:
    """Write `data` to `file` unless it is there already; returns whether it wrote."""
    if file.is_file() and file.read_bytes() == data:
        return False
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(data)
        _sync(temporary)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    _sync(file.parent)
    return True


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the only writer of `folder` (made if absent) inside the block, in any process or thread.

    What an interrupted writer left unfinished is removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in folder.glob(f"{UNFINISHED}*"):
            _remove(leftover)
        yield


@contextmanager
def new_folder(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty temporary folder that becomes `folder` at the end of the block.

    Call it in `locked(folder.parent)`. If the block raises, nothing is left. With `replace` an
    older `folder` makes way; without it OSError is raised.
    """
    temporary = folder.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for path in (*temporary.rglob("*"), temporary):
            _sync(path)
        if replace and folder.exists():
            folder.rename(folder.with_name(f"{UNFINISHED}{uuid.uuid4().hex}-old"))
        temporary.rename(folder)
        _sync(folder.parent)
    finally:
        _remove(temporary)
    for old in folder.parent.glob(f"{UNFINISHED}*-old"):
        _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
