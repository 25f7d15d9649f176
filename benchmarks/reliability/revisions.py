"""Revisions for measurements: copies, so that no export is in the figures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from unsee.core.files import locked, new_folder
from unsee.repository.layout import policy_model
from unsee.repository.revisions import next_revision


def copy_revision(repository_dir: Path, policy: str, source: int) -> int:
    """Another revision with the same graph, records and golden answer; its number."""
    model_dir = repository_dir / policy_model(policy)
    with locked(model_dir):
        number = next_revision(model_dir)
        with new_folder(model_dir / str(number)) as folder:
            shutil.copytree(model_dir / str(source), folder, dirs_exist_ok=True)
            file = folder / "revision.json"
            record = json.loads(file.read_bytes()) | {"revision": number}
            file.write_text(json.dumps(record, indent=2) + "\n")
    return number
