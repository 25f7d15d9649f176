"""The key that Triton's admin APIs ask for, and where it is kept.

Triton's HTTP front looks at neither `Origin` nor `Content-Type`, and its load API takes model files
from the request itself: without a key, a web page that somebody opens on the server's machine could
run code as the server. So `unsee serve` starts Triton with a random key and keeps it in a file that
its own user alone may read; the supervisor and the publishing commands take it from there.
"""

from __future__ import annotations

import os
import secrets
import socket
import stat
from pathlib import Path

from unsee.core.errors import InputError
from unsee.core.files import new_file
from unsee.core.validation import path_in

HTTP_HEADER = "unsee-admin-key"
GRPC_HEADER = f"triton-grpc-protocol-{HTTP_HEADER}"
KEY_FILE_VARIABLE = "UNSEE_ADMIN_KEY_FILE"
"""Names a file that holds the key: for containers, which share no run folder."""
RUN_DIR_VARIABLE = "UNSEE_RUN_DIR"
RESTRICTED = "model-repository,model-config,shared-memory,statistics,trace,logging"
"""What needs the key, in Triton's words: all but inference, health and metadata."""
RESTRICTED_OVER_HTTP = f"{RESTRICTED},inference"
"""Nobody needs inference over HTTP on Triton's own port but a health check, which has the key."""
NEEDS_KEY = "is restricted, expecting header"
"""Triton's words to who has not shown the key."""


def run_dir() -> Path:
    """The folder of this user's running servers; made with mode 0700 if it is missing.

    Not in a temporary folder or one of the login session: the server and the commands that publish
    may have been started from different ones.

    Raises:
        InputError: it cannot be made, or somebody else could write there.
    """
    named = path_in(RUN_DIR_VARIABLE)
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    folder = named or Path(state, "unsee", "run")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise InputError(
            f"{folder}, for the keys of running servers, cannot be made: {error.strerror}; name "
            f"another folder in {RUN_DIR_VARIABLE}"
        ) from error
    if named:
        return folder
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise InputError(
            f"{folder} is not a folder that only this user can write to; remove it, or name "
            f"another one in {RUN_DIR_VARIABLE}"
        )
    return folder


def key_file(url: str) -> Path:
    """Where the key of the server at `url` (host and gRPC port) is kept on this machine."""
    return path_in(KEY_FILE_VARIABLE) or run_dir() / f"triton-{url.rpartition(':')[2]}.key"


def make_key(url: str) -> str:
    """The key for a server that is about to listen at `url`: a random one, kept in `key_file`.

    With `UNSEE_ADMIN_KEY_FILE` it is the one in that file.

    Raises:
        InputError: the file cannot be written, or is named and cannot be read.
    """
    file = key_file(url)
    if os.environ.get(KEY_FILE_VARIABLE):
        key = read_key(url)
        if not key:
            raise InputError(f"{KEY_FILE_VARIABLE} names {file}, which holds no key")
        return key
    key = secrets.token_urlsafe(32)
    try:
        with new_file(file) as temporary:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as stream:
                stream.write(key)
    except OSError as error:
        raise InputError(
            f"the key of Triton's admin APIs cannot be kept in {file}: {error.strerror}; "
            f"name another folder in {RUN_DIR_VARIABLE}"
        ) from error
    return key


def forget_key(url: str, key: str) -> None:
    """Remove the key's file, unless another server has replaced it or it was named from outside."""
    if os.environ.get(KEY_FILE_VARIABLE) or read_key(url) != key:
        return
    key_file(url).unlink(missing_ok=True)


def read_key(url: str) -> str | None:
    """The key of the server at `url`; None if this user's run folder has none.

    Raises:
        InputError: the file is there and cannot be read, or holds more than a key.
    """
    file = key_file(url)
    try:
        key = file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(
            f"the key of Triton's admin APIs in {file} cannot be read: {error.strerror}"
        ) from error
    except UnicodeDecodeError as error:
        raise _no_key(file) from error
    if not key.isprintable() or " " in key:
        raise _no_key(file)
    return key or None


def _no_key(file: Path) -> InputError:
    return InputError(
        f"{file} is no key of Triton's admin APIs, which is one word in ASCII; give the file that "
        "the server was started with"
    )


def admin_headers(url: str) -> tuple[tuple[str, str], ...]:
    """What goes with a call to the server at `url`: its key, if this user's run folder has one.

    A key of this machine's servers is shown to no other machine; one that was named is.
    """
    key = read_key(url) if _may_be_shown(url) else None
    return () if key is None else ((GRPC_HEADER, key),)


def missing_key(url: str) -> str:
    """What to say when the server at `url` wants a key that was not shown."""
    why = (
        f"{key_file(url)} does not hold it"
        if _may_be_shown(url)
        else "it is on another machine, which the keys of this one's servers are not shown to"
    )
    return (
        f"the server at {url} wants its admin key, and {why}; run this as the user and on the "
        f"machine of `unsee serve`, or name the file with {KEY_FILE_VARIABLE}"
    )


def _may_be_shown(url: str) -> bool:
    return path_in(KEY_FILE_VARIABLE) is not None or _is_here(url.rpartition(":")[0].strip("[]"))


def _is_here(host: str) -> bool:
    """Whether every address of `host` is one of this machine's: a socket can be bound to it."""
    try:
        for family, _, _, _, address in socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM):
            with socket.socket(family, socket.SOCK_DGRAM) as tried:
                tried.bind(address)
    except (OSError, UnicodeError):
        return False
    return True
