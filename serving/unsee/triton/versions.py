"""Brings what a server has loaded of one model into line with the model's folder.

What that is, the server itself says, so it does not matter which command was interrupted when.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from unsee.core.errors import ServerError
from unsee.core.files import link_or_copy
from unsee.core.policy import BASE_POLICY
from unsee.repository.layout import (
    MODEL_FILE,
    VERSION,
    revision_dir,
    stand_in_dir,
    stand_in_dirs,
    version_dir,
)
from unsee.repository.revisions import graph_files, versions_on_disk
from unsee.triton.server import ASK_TIMEOUT_S, ModelVersion, Server, VersionState

UNLOAD_TIMEOUT_S = 300.0
POLL_S = 0.1


def align(server: Server, model_dir: Path) -> tuple[int, ...]:
    """Unload versions whose folder is gone and clear failed loads of such; returns them all.

    A version that is unloaded lives on until the last inference with it has ended; the call waits
    for that.

    Raises:
        ServerError: the server could not be asked, or did not do it in `UNLOAD_TIMEOUT_S`.
    """
    model, present = model_dir.name, versions_on_disk(model_dir)
    states = server.versions(model)
    gone = {n: state for n, state in states.items() if n not in present}
    failed = [n for n, state in gone.items() if state is VersionState.FAILED]
    for version in failed:
        _clear_failure(server, model_dir, version)
    if failed or VersionState.LOADED in gone.values():
        _refresh(server, model_dir)
    _wait_until_unloaded(server, model, tuple(gone))
    return tuple(n for n, state in gone.items() if state is not VersionState.UNLOADED)


def reload(server: Server, repository_dir: Path, wanted: ModelVersion) -> None:
    """Replace the process of one version; requests of the model's other versions go on.

    A load call loads a version again whose folder is younger than when it was loaded, so the
    folder's time is set. In a repository that cannot be written to, every version of the model is
    unloaded and loaded. Nothing happens if the version's folder is gone.
    """
    try:
        os.utime(version_dir(repository_dir, wanted.model, wanted.version))
    except FileNotFoundError:
        return
    except OSError:
        server.unload(wanted.model, ASK_TIMEOUT_S)
    server.refresh(wanted.model)


def remove_stand_ins(model_dir: Path) -> None:
    """Delete the copies of the base's encoder that an interrupted `align` has left."""
    for folder in stand_in_dirs(model_dir):
        shutil.rmtree(folder)


def _clear_failure(server: Server, model_dir: Path, version: int) -> None:
    """Load the base's encoder under the number of a version that failed, and take it away again.

    A failed load makes the whole server unready until that very version loads. Nobody can ask for
    the number: it is not eligible.
    """
    healthy_dir = revision_dir(model_dir.parent, BASE_POLICY, VERSION)
    if not (healthy_dir / MODEL_FILE).is_file():
        return
    stand_in = stand_in_dir(model_dir, version)
    shutil.rmtree(stand_in, ignore_errors=True)
    stand_in.mkdir()
    for file in graph_files(healthy_dir):
        link_or_copy(file, stand_in / file.name)
    place = model_dir / str(version)
    stand_in.rename(place)
    try:
        server.refresh(model_dir.name)
    finally:
        place.rename(stand_in)
        shutil.rmtree(stand_in)


def _refresh(server: Server, model_dir: Path) -> None:
    if versions_on_disk(model_dir):
        server.refresh(model_dir.name)
    else:
        server.unload(model_dir.name)


def _wait_until_unloaded(server: Server, model: str, versions: tuple[int, ...]) -> None:
    deadline = time.monotonic() + UNLOAD_TIMEOUT_S
    while busy := [n for n in versions if not _is_out(server.versions(model).get(n))]:
        if time.monotonic() > deadline:
            listed = ", ".join(map(str, busy))
            raise ServerError(
                f"the server at {server.url} still has version {listed} of {model} after "
                f"{UNLOAD_TIMEOUT_S:g} s; look for requests that do not end, then run: unsee repair"
            )
        time.sleep(POLL_S)


def _is_out(state: VersionState | None) -> bool:
    return state not in (VersionState.LOADED, VersionState.CHANGING)
