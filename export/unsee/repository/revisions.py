"""The version folders of a policy: what is in one, whether it is whole, and where it goes.

    <N>/model.onnx           the graph: what the policy makes of the text encoder's states, or, of
                             tuned weights, the whole text encoder (`RevisionRecord.kind`)
    <N>/model.onnx.data      weights beside it, if it has more than 2 GB of them
    <N>/export.json          what the graph was made from and its parity
    <N>/revision.json        the policy, its concepts and digests
    <N>/golden.safetensors   `input_ids` and `attention_mask` INT64 [n, L] and PyTorch's
                             `prompt_embeds` FP32 [n, L, D] for them: a server that is asked for
                             the revision must agree
    <N>/report.json, .html   what the gate judged

A revision that is not served any more goes to `.retired` (it was served once) or `.rejected` (it
never answered as it should, or was never finished), which lie outside of the model's folder, so
Triton does not load it. Nothing is deleted: a revision is evidence.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from unsee.core.errors import RevisionUnfit
from unsee.core.files import sync
from unsee.core.policy import BASE_POLICY
from unsee.repository.base import read_base
from unsee.repository.layout import (
    EXPORT_FILE,
    GOLDEN_FILE,
    REJECTED,
    RETIRED,
    REVISION_FILE,
    archive_dir,
    base_file,
    graph_digest,
    graph_files,
    revision_dir,
)
from unsee.repository.records import GraphExport, RevisionRecord, read_record

AGAIN = "publish the policy again"
_GIVEN = re.compile(r"([1-9][0-9]*)(?:\.[0-9]+)?")


def check_files(repository_dir: Path, policy: str, revision: int) -> Path:
    """The revision's folder, if its graph is the one of its records and it is this revision.

    Raises:
        RevisionUnfit: a file is missing, broken, or differs from the records; it is named. Or the
            revision was made from another base than the repository's.
    """
    folder = revision_dir(repository_dir, policy, revision)
    check_folder(folder, policy, revision)
    if policy != BASE_POLICY:
        _check_base(repository_dir, folder)
    return folder


def check_folder(folder: Path, policy: str, revision: int) -> None:
    """As `check_files`, of a revision whose files are in `folder`."""
    exported = read_record(GraphExport, folder / EXPORT_FILE, AGAIN, RevisionUnfit).sha256
    record = read_record(RevisionRecord, folder / REVISION_FILE, AGAIN, RevisionUnfit)
    expected = {"policy": policy, "revision": revision, "graph_digest": exported}
    for field, value in expected.items():
        found = getattr(record, field)
        if found != value:
            raise RevisionUnfit(
                f"{folder / REVISION_FILE} says {field} {_short(found)} where {_short(value)} is "
                f"expected; {AGAIN}"
            )
    try:
        digest = graph_digest(folder)
    except OSError as error:
        raise RevisionUnfit(
            f"{error.filename} cannot be read: {error.strerror}; {AGAIN}"
        ) from error
    if digest != exported:
        raise RevisionUnfit(
            f"{' with '.join(map(str, graph_files(folder)))} has the digest {_short(digest)}, "
            f"{EXPORT_FILE} recorded {_short(exported)}: it was changed or damaged; {AGAIN}"
        )


def read_revision(repository_dir: Path, policy: str, revision: int) -> RevisionRecord:
    """The record of a revision; raises `RevisionUnfit` if it is missing or broken."""
    file = revision_dir(repository_dir, policy, revision) / REVISION_FILE
    return read_record(RevisionRecord, file, AGAIN, RevisionUnfit)


def golden(version_dir: Path) -> dict[str, Any]:
    """The recorded inputs and answer of a revision.

    Raises:
        RevisionUnfit: the file is missing or broken.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    file = version_dir / GOLDEN_FILE
    try:
        tensors: dict[str, Any] = load_file(file)
    except (OSError, SafetensorError) as error:
        raise RevisionUnfit(f"{file} cannot be read; {AGAIN}") from error
    return tensors


def versions_on_disk(model_dir: Path) -> set[int]:
    """The numbers of the version folders of a model; none if there is no such model."""
    if not model_dir.is_dir():
        return set()
    names = (path.name for path in model_dir.iterdir())
    return {int(name) for name in names if name.isascii() and name.isdigit()}


def next_revision(model_dir: Path) -> int:
    """The number after every one that a revision of this model has or had."""
    folders = (model_dir, archive_dir(model_dir, RETIRED), archive_dir(model_dir, REJECTED))
    names = (path.name for folder in folders if folder.is_dir() for path in folder.iterdir())
    given = (_GIVEN.fullmatch(name) for name in names)
    return 1 + max((int(match[1]) for match in given if match), default=0)


def put_away(version_dir: Path, archive: str) -> Path:
    """Move a revision into `archive` (RETIRED or REJECTED) by one rename; where it is then.

    A number that the archive holds already gets a suffix: `3.2`. Both folders are on the disk when
    the call returns.
    """
    folder = archive_dir(version_dir.parent, archive)
    folder.mkdir(parents=True, exist_ok=True)
    target, copy = folder / version_dir.name, 1
    while target.exists():
        copy += 1
        target = folder / f"{version_dir.name}.{copy}"
    version_dir.rename(target)
    for changed in (folder, version_dir.parent):
        sync(changed)
    return target


def _check_base(repository_dir: Path, folder: Path) -> None:
    """What another base's text encoder says is not what the revision edits."""
    record = read_record(RevisionRecord, folder / REVISION_FILE, AGAIN, RevisionUnfit)
    try:
        digest = read_base(base_file(repository_dir)).digest
    except (OSError, ValueError):  # nothing can be served from such a repository
        return
    if record.base_digest != digest:
        raise RevisionUnfit(
            f"{folder} was made from another base than the repository's (text encoder "
            f"{_short(record.base_digest)}, not {_short(digest)}); {AGAIN}"
        )


def _short(value: object) -> str:
    return str(value)[:19]
