"""A replica's own model repository, made from a store that many replicas share and only read.

Encoders are copied, since Triton must be able to let go of one version after the other while the
store moves on; weights that copies have in common are there once. The video UNet and the VAE
decoder, which never change, are links. A copy is checked against its records before Triton can see
it: that, and whole versions under links, is what a general tool that copies folders does not do.
"""

from __future__ import annotations

import filecmp
import shutil
from functools import partial
from pathlib import Path

from unsee.core.errors import FileNotWritable, InputError, RevisionUnfit
from unsee.core.files import (
    link_or_copy,
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
    TEXT_TO_VIDEO,
    WEIGHTS_FILE,
    encoder_dirs,
    encoder_model,
    revision_dir,
)
from unsee.repository.revisions import check_folder, versions_on_disk
from unsee.triton.versions import remove_stand_ins

_WITHOUT_CACHE = shutil.ignore_patterns("__pycache__")


def copy_service(store_dir: Path, repository_dir: Path) -> None:
    """Everything but the encoders: `text_to_video` copied, the graphs and the audit log linked.

    What an interrupted copy has left is removed.

    Raises:
        InputError: the store lacks a model, or cannot be read.
        FileNotWritable: the replica's repository cannot be written.
    """
    for name in (*GRAPH_MODELS, TEXT_TO_VIDEO):
        if not (store_dir / name / CONFIG_FILE).is_file():
            raise InputError(
                f"the store {store_dir} is no model repository: it has no {name}/{CONFIG_FILE}; "
                "make one with: unsee export"
            )
    try:
        repository_dir.mkdir(parents=True, exist_ok=True)
        for folder in (repository_dir, *encoder_dirs(repository_dir).values()):
            remove_unfinished(folder)
        for name in (*GRAPH_MODELS, AUDIT_FILE):
            link = repository_dir / name
            link.unlink(missing_ok=True)
            link.symlink_to((store_dir / name).absolute())
        with new_folder(repository_dir / TEXT_TO_VIDEO, replace=True) as new:
            source = store_dir / TEXT_TO_VIDEO
            shutil.copytree(source, new, ignore=_WITHOUT_CACHE, dirs_exist_ok=True)
    except OSError as error:
        raise _not_copied(store_dir, error) from error


def fetch_revision(store_dir: Path, repository_dir: Path, policy: str, revision: int) -> Path:
    """Copy a revision, look whether it is whole, and only then put it in its model's folder.

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
            held = encoder_dirs(repository_dir).values()
            weights = [file for model_dir in held for file in model_dir.glob(f"*/{WEIGHTS_FILE}")]
            with new_folder(folder) as new:
                copy = partial(_copy, weights=weights)
                shutil.copytree(source, new, copy_function=copy, dirs_exist_ok=True)
                check_folder(new, policy, revision)
        config = (source.parent / CONFIG_FILE).read_bytes()
        write_file(folder.parent / CONFIG_FILE, config)
    except OSError as error:  # copytree's own error is one
        raise _not_copied(source, error) from error
    return folder


def drop_revision(repository_dir: Path, policy: str, revision: int) -> None:
    """Remove a copy from the repository; the store keeps what it has."""
    remove_folder(revision_dir(repository_dir, policy, revision))


def drop_model_if_empty(repository_dir: Path, policy: str) -> None:
    """Remove a model's folder that has no version left: Triton could not start with it."""
    model_dir = repository_dir / encoder_model(policy)
    remove_stand_ins(model_dir)
    if model_dir.is_dir() and not versions_on_disk(model_dir):
        shutil.rmtree(model_dir)


def copies(repository_dir: Path) -> set[tuple[str, int]]:
    """Policy and revision of every copy in the repository."""
    folders = encoder_dirs(repository_dir).items()
    return {(policy, number) for policy, folder in folders for number in versions_on_disk(folder)}


def _is_whole(folder: Path, policy: str, revision: int) -> bool:
    try:
        check_folder(folder, policy, revision)
    except RevisionUnfit:
        return False
    return True


def _copy(source: str, target: str, weights: list[Path]) -> None:
    """Copy a file; of `weights`, files of the repository, one that is the same is linked to."""
    if Path(source).name == WEIGHTS_FILE:
        for file in weights:
            if filecmp.cmp(source, file, shallow=False):
                link_or_copy(file, target)
                return
    shutil.copy2(source, target)


def _not_copied(source: Path, error: OSError) -> FileNotWritable:
    return FileNotWritable(f"cannot copy {source}: {not_writable(source, error)}")
