"""Whether a revision's files are what its records say.

Knows the files by name and digest, neither what is in a graph nor who serves it; needs nothing
heavier than the standard library.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from unsee.serving.errors import RevisionUnfit
from unsee.serving.pointer import encoder_model

MODEL_FILE = "model.onnx"
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
    found = _graph_digest(folder)
    if found != exported:
        raise RevisionUnfit(
            f"{folder / MODEL_FILE} has the digest {_short(found)}, {EXPORT_FILE} recorded "
            f"{_short(exported)}: it was changed or damaged; publish the policy again"
        )
    return folder


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


def _graph_digest(folder: Path) -> str:
    """`"sha256:…"` over model.onnx and its external weights, if there are."""
    sha256 = hashlib.sha256()
    weights = folder / f"{MODEL_FILE}.data"
    try:
        for file in [folder / MODEL_FILE, *([weights] if weights.exists() else [])]:
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    sha256.update(block)
    except OSError as error:
        raise RevisionUnfit(
            f"{folder / MODEL_FILE} cannot be read: {error.strerror}; publish the policy again"
        ) from error
    return f"sha256:{sha256.hexdigest()}"


def _short(value: object) -> str:
    return str(value)[:19]
