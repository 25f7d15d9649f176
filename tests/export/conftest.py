"""One tiny base and its exported repository, shared by these tests; copy before changing."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # a quick run imports nothing of PyTorch
    from unsee.export.build import ExportRecord
    from unsee.models.base import Base


@dataclass(frozen=True)
class Exported:
    base_dir: Path
    base: Base
    repository_dir: Path
    record: ExportRecord


@pytest.fixture(scope="session")
def tiny_base(tiny_base_dir) -> Base:
    from unsee.models.base import load_base

    return load_base(tiny_base_dir)


@pytest.fixture(scope="session")
def exported(tiny_base_dir, tiny_base, tiny_repository_dir, tmp_path_factory) -> Exported:
    from unsee.export.build import write_repository
    from unsee.export.engines.record import EngineSelection

    selection = EngineSelection(engine="onnxruntime")
    folder = tmp_path_factory.mktemp("exported") / "repository"
    shutil.copytree(tiny_repository_dir, folder)  # another worker may have it too
    record = write_repository(tiny_base, folder, selection=selection)
    return Exported(tiny_base_dir, tiny_base, folder, record)
