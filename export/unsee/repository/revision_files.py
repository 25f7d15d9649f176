"""Whether a revision's files are what its records say.

Knows the files by name and digest, neither what is in a graph nor who serves it; needs nothing
heavier than the standard library.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unsee.core.errors import RevisionUnfit
from unsee.repository.pointer import encoder_model

MODEL_FILE = "model.onnx"
WEIGHTS_FILE = "model.onnx.data"
EXPORT_FILE = "export.json"
REVISION_FILE = "revision.json"
GOLDEN_FILE = "golden.safetensors"


def check_files(repository_dir: Path, policy: str, revision: int) -> Path:
    """The revision's folder, if its graph is the one of its records and it is this revision.

    Raises:
        RevisionUnfit: a file is missing, broken, or differs from the records; it is named.
    """
    folder = repository_dir / encoder_model(policy) / str(revision)
    exported = _field(folder / EXPORT_FILE, "sha256")
    record = folder / REVISION_FILE
    _demand(record, "policy", policy)
    _demand(record, "revision", revision)
    _demand(record, "encoder_digest", exported)
    files = graph_files(folder)
    found = _graph_digest(files)
    if found != exported:
        raise RevisionUnfit(
            f"{' with '.join(map(str, files))} has the digest {_short(found)}, {EXPORT_FILE} "
            f"recorded {_short(exported)}: it was changed or damaged; publish the policy again"
        )
    return folder


def graph_files(folder: Path) -> list[Path]:
    """model.onnx and the weights beside it, if there are."""
    weights = folder / WEIGHTS_FILE
    return [folder / MODEL_FILE, *([weights] if weights.exists() else [])]


def golden(version_dir: Path) -> dict[str, Any]:
    """The recorded inputs and answer of a revision (see `unsee.export.revision`).

    Raises:
        RevisionUnfit: the file is missing or broken.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    file = version_dir / GOLDEN_FILE
    try:
        tensors: dict[str, Any] = load_file(file)
    except (OSError, SafetensorError) as error:
        raise RevisionUnfit(f"{file} cannot be read; publish the policy again") from error
    return tensors


def _demand(file: Path, field: str, wanted: object) -> None:
    found = _field(file, field)
    if found != wanted:
        raise RevisionUnfit(
            f"{file} says {field} {_short(found)} where {_short(wanted)} is expected; "
            "publish the policy again"
        )


def _field(file: Path, field: str) -> Any:
    try:
        return json.loads(file.read_bytes())[field]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RevisionUnfit(
            f"the record {file} is missing or broken; publish the policy again"
        ) from error


def _graph_digest(files: Iterable[Path]) -> str:
    """`"sha256:…"` over the bytes of the files, one after the other."""
    sha256 = hashlib.sha256()
    for file in files:
        try:
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    sha256.update(block)
        except OSError as error:
            raise RevisionUnfit(
                f"{file} cannot be read: {error.strerror}; publish the policy again"
            ) from error
    return f"sha256:{sha256.hexdigest()}"


def _short(value: object) -> str:
    return str(value)[:19]
