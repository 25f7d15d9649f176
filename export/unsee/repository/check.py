"""Which models of a repository to load, after a look whether every one of them is whole.

Triton's own words for a half-written repository are pages of log; these are one sentence.
"""

from __future__ import annotations

from pathlib import Path

from unsee.core.errors import RepositoryIncomplete
from unsee.repository.layout import (
    ASSETS,
    CODE_FILE,
    CONFIG_FILE,
    GRAPH_MODELS,
    MODEL_FILE,
    TEXT_TO_VIDEO,
    VERSION,
    assets_dir,
    encoder_model,
    version_dir,
)
from unsee.repository.pointer import read
from unsee.repository.revisions import versions_on_disk


def loadable_models(repository_dir: Path) -> list[str]:
    """The names of the models to load at start; raises RepositoryIncomplete or InputError."""
    policies = read(repository_dir)
    states = sorted(policies.policies.items())
    wanted = {model: {VERSION} for model in GRAPH_MODELS}
    wanted |= {encoder_model(name): set(state.eligible) for name, state in states if state.eligible}
    for model, versions in wanted.items():
        files = [version_dir(repository_dir, model, n) / MODEL_FILE for n in sorted(versions)]
        _check(repository_dir, [repository_dir / model / CONFIG_FILE, *files])
        present = sorted(versions_on_disk(repository_dir / model) - versions)
        _check(
            repository_dir, [version_dir(repository_dir, model, n) / MODEL_FILE for n in present]
        )
    config = repository_dir / TEXT_TO_VIDEO / CONFIG_FILE
    code = version_dir(repository_dir, TEXT_TO_VIDEO) / CODE_FILE
    assets = [assets_dir(repository_dir) / name for name in ASSETS]
    _check(repository_dir, [config, code, *assets])
    if not policies.policies:
        raise RepositoryIncomplete("policies.json names no policy; make one with: unsee export")
    return [*GRAPH_MODELS, TEXT_TO_VIDEO, *(model for model in wanted if model not in GRAPH_MODELS)]


def _check(repository_dir: Path, files: list[Path]) -> None:
    for file in files:
        if not file.is_file() or not file.stat().st_size:
            name, state = file.relative_to(repository_dir), "empty" if file.is_file() else "missing"
            raise RepositoryIncomplete(
                f"the model repository {repository_dir} is incomplete: {name} is {state}; "
                "make it with: unsee export"
            )
