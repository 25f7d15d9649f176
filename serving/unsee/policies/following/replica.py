"""A replica's own model repository, made from a store that many replicas share and only read.

Revisions are copied, since the store moves on by itself, and so are the models whose process may
be replaced. The base's graphs, which never change, are links. A copy is checked against its records
before it can be used: that, and whole revisions under links, is what a general tool that copies
folders does not do.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from unsee.core.errors import FileNotWritable, InputError, RevisionUnfit
from unsee.core.files import (
    new_folder,
    not_writable,
    remove_folder,
    remove_unfinished,
    write_file,
)
from unsee.repository.layout import (
    AUDIT_FILE,
    CONFIG_FILE,
    GRAPH_MODELS,
    PROMPT_ENCODER,
    RETIRED,
    SERVED_MODELS,
    TEXT_TO_VIDEO,
    VAE_DECODER_NEXT,
    archive_dir,
    policy_dirs,
    revision_dir,
)
from unsee.repository.revisions import check_folder, put_away, versions_on_disk

_WITHOUT_CACHE = shutil.ignore_patterns("__pycache__")


def check_is_replica(repository_dir: Path) -> None:
    """Raise unless `repository_dir` may be a replica's: its graphs, if there are any, are links.

    Raises:
        InputError: it is a repository with graphs of its own, such as the store itself.
    """
    for name in GRAPH_MODELS:
        place = repository_dir / name
        if place.exists() and not place.is_symlink():
            raise InputError(
                f"{repository_dir} is a model repository with a {name} of its own and would be "
                "changed to follow the store; give another folder with --repository"
            )


def copy_service(store_dir: Path, repository_dir: Path) -> None:
    """Everything but the policies: the graphs and the audit log linked, the other models copied.

    What an interrupted copy has left is removed.

    Raises:
        InputError: the store lacks a model, or cannot be read; or as `check_is_replica`.
        FileNotWritable: the replica's repository cannot be written.
    """
    check_is_replica(repository_dir)
    for name in SERVED_MODELS:
        if not (store_dir / name / CONFIG_FILE).is_file():
            raise InputError(
                f"the store {store_dir} is no model repository: it has no {name}/{CONFIG_FILE}; "
                "make one with: unsee export"
            )
    try:
        repository_dir.mkdir(parents=True, exist_ok=True)
        for folder in (repository_dir, *policy_dirs(repository_dir).values()):
            remove_unfinished(folder)
        for name in (*GRAPH_MODELS, VAE_DECODER_NEXT, AUDIT_FILE):
            link = repository_dir / name
            link.unlink(missing_ok=True)
            if name != VAE_DECODER_NEXT or (store_dir / name).is_dir():
                link.symlink_to((store_dir / name).absolute())
        for name in (PROMPT_ENCODER, TEXT_TO_VIDEO):
            with new_folder(repository_dir / name, replace=True) as new:
                source = store_dir / name
                shutil.copytree(source, new, ignore=_WITHOUT_CACHE, dirs_exist_ok=True)
    except OSError as error:
        raise _not_copied(store_dir, error) from error


def fetch_revision(store_dir: Path, repository_dir: Path, policy: str, revision: int) -> Path:
    """Copy a revision, look whether it is whole, and only then put it in its policy's folder.

    A copy that is there already is left alone if it is whole, else made anew. Returns the copy's
    folder.

    Raises:
        RevisionUnfit: a file is missing in the store or is not what the records say.
        FileNotWritable: it cannot be read or written: no space, a store that went away.
    """
    source = revision_dir(store_dir, policy, revision)
    folder = revision_dir(repository_dir, policy, revision)
    try:
        if not _is_whole(folder, policy, revision):
            remove_folder(folder)
            with new_folder(folder) as new:
                shutil.copytree(source, new, dirs_exist_ok=True)
                check_folder(new, policy, revision)
        config = (source.parent / CONFIG_FILE).read_bytes()
        write_file(folder.parent / CONFIG_FILE, config)
    except OSError as error:  # copytree's own error is one
        raise _not_copied(source, error) from error
    return folder


def drop_revision(repository_dir: Path, policy: str, revision: int) -> None:
    """Remove a copy from the repository; the store keeps what it has."""
    remove_folder(revision_dir(repository_dir, policy, revision))


def retire_revision(repository_dir: Path, policy: str, revision: int, kept_s: float) -> None:
    """Put a copy that requests may still be about to use into the repository's own archive.

    What has lain there for longer than `kept_s` seconds is removed.
    """
    before = time.time() - kept_s
    for retired in repository_dir.glob(f"{RETIRED}/*/*"):
        if retired.stat().st_mtime < before:
            remove_folder(retired)
    folder = revision_dir(repository_dir, policy, revision)
    kept = archive_dir(folder.parent, RETIRED) / folder.name
    try:
        if kept.exists():  # it came and went before, and is the same
            remove_folder(folder)
        else:
            put_away(folder, RETIRED)
        os.utime(kept)
    except OSError as error:
        raise not_writable(folder, error) from error


def copies(repository_dir: Path) -> set[tuple[str, int]]:
    """Policy and revision of every copy in the repository."""
    folders = policy_dirs(repository_dir).items()
    return {(policy, number) for policy, folder in folders for number in versions_on_disk(folder)}


def _is_whole(folder: Path, policy: str, revision: int) -> bool:
    try:
        check_folder(folder, policy, revision)
    except RevisionUnfit:
        return False
    return True


def _not_copied(source: Path, error: OSError) -> FileNotWritable:
    return FileNotWritable(f"cannot copy {source}: {not_writable(source, error)}")
