"""A replica's own model repository, made from a store that many replicas share and only read.

Encoders are copied, since Triton must be able to let go of one version after the other while the
store moves on, and weights that they have in common only once; the video UNet and the VAE decoder,
which never change, are links. A copy is checked against its records before Triton can see it. Knows
neither the pointer nor any server.
"""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path

from unsee.core.errors import FileNotWritable, InputError, RevisionUnfit
from unsee.core.files import link_or_copy, not_writable
from unsee.repository.layout import (
    AUDIT_FILE,
    CONFIG_FILE,
    GRAPH_MODELS,
    TEXT_TO_VIDEO,
    WEIGHTS_FILE,
    encoder_dirs,
    encoder_model,
)
from unsee.repository.revisions import check_files, versions_on_disk
from unsee.triton.versions import remove_stand_ins

INCOMING = ".incoming"


def copy_service(store_dir: Path, repository_dir: Path) -> None:
    """Everything but the encoders: `text_to_video` copied, the graphs and the audit log linked.

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
        shutil.rmtree(repository_dir / INCOMING, ignore_errors=True)
        for name in (*GRAPH_MODELS, AUDIT_FILE):
            link = repository_dir / name
            link.unlink(missing_ok=True)
            link.symlink_to((store_dir / name).absolute())
        target = repository_dir / TEXT_TO_VIDEO
        shutil.rmtree(target, ignore_errors=True)
        without_cache = shutil.ignore_patterns("__pycache__")
        shutil.copytree(store_dir / TEXT_TO_VIDEO, target, ignore=without_cache)
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
    model = encoder_model(policy)
    version_dir = repository_dir / model / str(revision)
    if version_dir.is_dir():
        try:
            return check_files(repository_dir, policy, revision)
        except RevisionUnfit:
            drop_revision(repository_dir, policy, revision)
    incoming_dir = repository_dir / INCOMING
    try:
        shutil.rmtree(incoming_dir, ignore_errors=True)
        shutil.copytree(
            store_dir / model / str(revision),
            incoming_dir / model / str(revision),
            copy_function=_Copier(repository_dir),
        )
        fetched = check_files(incoming_dir, policy, revision)
        if not version_dir.parent.is_dir():
            shutil.copy2(store_dir / model / CONFIG_FILE, incoming_dir / model)
            (incoming_dir / model).rename(version_dir.parent)
        else:
            fetched.rename(version_dir)
    except OSError as error:  # copytree's own error is one
        raise _not_copied(store_dir / model / str(revision), error) from error
    finally:
        shutil.rmtree(incoming_dir, ignore_errors=True)
    return version_dir


def drop_revision(repository_dir: Path, policy: str, revision: int) -> None:
    """Remove a copy from the repository; the store keeps what it has."""
    out = repository_dir / INCOMING
    out.mkdir(exist_ok=True)
    dropped = out / "dropped"
    shutil.rmtree(dropped, ignore_errors=True)
    (repository_dir / encoder_model(policy) / str(revision)).rename(dropped)
    shutil.rmtree(out)


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


class _Copier:
    """Copies a file; weights that a copy in the repository has already are linked to it instead.

    So versions share them here as they do in the store (`unsee.export.onnx.shared_weights`).
    """

    def __init__(self, repository_dir: Path) -> None:
        files = repository_dir.glob(f"{encoder_model('*')}/*/{WEIGHTS_FILE}")
        self._held = {file.stat().st_ino: file for file in files}

    def __call__(self, source: str, target: str) -> None:
        if Path(source).name == WEIGHTS_FILE:
            for held in self._held.values():
                if filecmp.cmp(source, held, shallow=False):
                    link_or_copy(held, Path(target))
                    return
        shutil.copy2(source, target)


def _not_copied(source: Path, error: OSError) -> FileNotWritable:
    return FileNotWritable(f"cannot copy {source}: {not_writable(source, error)}")
