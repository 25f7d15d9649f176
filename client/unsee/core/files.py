"""Files and folders that are whole or absent, on the disk when a call returns; locks; room.

Everything new is written under a temporary name (`UNFINISHED…`) on the same file system, synced,
and renamed. A process that dies leaves at most such a name behind.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import pwd
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from unsee.core.errors import FileNotWritable, InputError, Locked, RepositoryError
from unsee.core.sizes import both_in_words, in_words

UNFINISHED = ".unfinished-"
LOCK_FILE = ".write.lock"
_FULL = (errno.ENOSPC, errno.EDQUOT)


def digest_of(content: bytes) -> str:
    """`"sha256:…"` over `content`."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def read_file(file: Path | str) -> bytes:
    """The content of a file that a person has named; raises InputError if it cannot be read."""
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error


def write_file(file: Path, content: bytes | str) -> bool:
    """Write `content`, text as UTF-8, to `file` unless it is there already; makes the folder.

    Returns whether it wrote. Raises `FileNotWritable`; `file` is then as it was.
    """
    data = content.encode() if isinstance(content, str) else content
    if file.is_file() and file.read_bytes() == data:
        return False
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with new_file(file) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise not_writable(file, error, len(data)) from error
    return True


def write_json(file: Path, content: Any, indent: int = 2) -> bool:
    """As `write_file`, a pydantic model or a JSON value as indented JSON with a line's end."""
    if isinstance(content, BaseModel):
        return write_file(file, content.model_dump_json(indent=indent) + "\n")
    return write_file(file, json.dumps(content, indent=indent) + "\n")


@contextmanager
def new_file(file: Path) -> Iterator[Path]:
    """Yield a path beside `file`, with its suffix, whose file takes its place after the block.

    If the block raises, or makes no file, `file` is as it was. Raises what the system raises.
    """
    temporary = file.with_name(f"{UNFINISHED}{uuid.uuid4().hex}{file.suffix}")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    sync(file.parent)


@contextmanager
def new_folder(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty folder that becomes `folder` after the block.

    With `replace` an older `folder` makes way, and is there again if the new one cannot take its
    place. If the block raises, nothing is left of the new one.

    Raises:
        FileNotWritable: the disk is full.
        OSError: `folder` is there and not empty, and `replace` is not given; or the system's own.
    """
    temporary = folder.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")
    old = folder.with_name(f"{temporary.name}-old")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for path in (*temporary.rglob("*"), temporary):
            sync(path)
        if replace and folder.exists():
            folder.rename(old)
        temporary.rename(folder)
        sync(folder.parent)
    except OSError as error:
        if error.errno in _FULL:
            raise not_writable(folder, error) from error
        raise
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        _remove(temporary)
        _remove(old)


def remove_folder(folder: Path) -> None:
    """Remove `folder` and all in it; nobody sees it half-removed. Nothing happens without one."""
    if folder.is_dir():
        aside = folder.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")
        folder.rename(aside)
        shutil.rmtree(aside)


def remove_unfinished(folder: Path) -> None:
    """Remove what an interrupted writer of `folder` has left; nobody may be writing in it."""
    for leftover in folder.glob(f"{UNFINISHED}*"):
        _remove(leftover)


def sync(path: Path) -> None:
    """Return when the file, or the folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def appending(file: Path) -> Iterator[Callable[[bytes], None]]:
    """Hold `file` (made if absent) alone, and yield the function that appends a line to it.

    The function takes the line without its end. All of the line is on the disk when it returns; if
    it raises, the file is as it was. A line that a crash has cut off does not swallow the next.

    Raises:
        FileNotWritable: the file cannot be opened, or, from the function, not be written.
    """
    if file.is_dir():
        raise not_writable(file, IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)))
    with lock(file) as descriptor:

        def append(line: bytes) -> None:
            try:
                _append(descriptor, line + b"\n")
            except OSError as error:
                raise not_writable(file, error, len(line) + 1) from error

        try:
            if not os.fstat(descriptor).st_size:  # who wrote the first line has synced the folder
                sync(file.parent)
        except OSError as error:
            raise not_writable(file, error) from error
        yield append


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the only writer of `folder` (made if absent) inside the block, in any process or thread.

    What an interrupted writer left unfinished is removed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_writable(folder, error) from error
    with lock(folder / LOCK_FILE):
        remove_unfinished(folder)
        yield


@contextmanager
def lock(
    path: Path, *, command: str | None = None, what: str | None = None, shared: bool = False
) -> Iterator[int]:
    """Hold the lock of `path`, a folder or a file (made if absent), inside the block.

    The system lets go of it when the process ends, however it ends. Yields the open descriptor.

    Args:
        command: what is done meanwhile. With it the lock is not waited for, and the file says who
            holds it; without it another holder is waited for.
        what: what the lock guards, for the error's sentence; by default the path.
        shared: whether others that share it may hold it too.

    Raises:
        Locked: somebody else holds it, and a `command` is given.
        FileNotWritable: the file cannot be opened or written.
    """
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_APPEND | os.O_CREAT
    try:
        descriptor = os.open(path, flags, 0o644)
    except OSError as error:
        raise not_writable(path, error) from error
    try:
        try:
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(descriptor, kind | (fcntl.LOCK_NB if command else 0))
        except BlockingIOError:
            holder = "" if path.is_dir() else path.read_text(encoding="utf-8").strip()
            raise Locked(what or str(path), holder or "another process") from None
        if command and not path.is_dir():
            try:
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"{user_at_host()} ({command})".encode())
            except OSError as error:
                raise not_writable(path, error) from error
        yield descriptor
    finally:
        os.close(descriptor)


def user_at_host() -> str:
    """The account that runs this process, by the system's own record, and the machine."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = f"uid{os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def check_space(folder: Path, num_bytes: int, what: str) -> None:
    """Raise `RepositoryError` unless `num_bytes` for `what` fit into `folder`, which is there."""
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        needed, there = both_in_words(num_bytes, free)
        raise RepositoryError(
            f"{what} needs {needed} in {folder}, where {there} are free; "
            "make room or choose another folder"
        )


def not_writable(path: Path, error: OSError, num_bytes: int | None = None) -> FileNotWritable:
    """The error to raise for `error` at writing `path`: the reason, and on a full disk the room.

    Args:
        num_bytes: how much was to be written, if known.
    """
    if isinstance(error, shutil.Error):  # of copying a folder: a list of (from, to, reason)
        reason = str(error.args[0][0][2]) if error.args and error.args[0] else "a copy failed"
    else:
        reason = error.strerror or str(error) or type(error).__name__
    if error.errno in _FULL:
        needed = f"{in_words(num_bytes)} needed, " if num_bytes is not None else ""
        reason = f"{reason} ({needed}{in_words(_free_bytes(path))} free)"
    return FileNotWritable(f"cannot write {path}: {reason}")


def _free_bytes(path: Path) -> int:
    there = next((folder for folder in path.absolute().parents if folder.is_dir()), Path("/"))
    return shutil.disk_usage(there).free


def _append(descriptor: int, line: bytes) -> None:
    """All of the line or none of it, as far as this process decides."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":  # a line that a crash cut off
        line = b"\n" + line
    try:
        while line:
            line = line[os.write(descriptor, line) :]
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
