"""Which models of a repository to load, after a look whether every one of them is whole.

Triton's own words for a half-written repository are pages of log; these are one sentence.
"""

from __future__ import annotations

from pathlib import Path

from unsee.core.errors import RepositoryIncomplete
from unsee.repository.base import read_base
from unsee.repository.layout import (
    ASSETS,
    CODE_FILE,
    CONFIG_FILE,
    GRAPH_MODELS,
    MODEL_FILE,
    PROMPT_ENCODER,
    SERVED_MODELS,
    TEXT_TO_VIDEO,
    VAE_DECODER_NEXT,
    VERSION,
    assets_dir,
    base_file,
    policy_model,
    version_dir,
)
from unsee.repository.pointer import read


def loadable_models(repository_dir: Path) -> list[str]:
    """The names of the models to load at start; raises RepositoryIncomplete or InputError."""
    policies = read(repository_dir)
    wanted: dict[str, tuple[int, ...]] = dict.fromkeys(GRAPH_MODELS, (VERSION,))
    for name, state in sorted(policies.policies.items()):
        if state.eligible:
            wanted[policy_model(name)] = state.eligible
    for model, versions in wanted.items():
        files = [version_dir(repository_dir, model, n) / MODEL_FILE for n in versions]
        _check(repository_dir, [repository_dir / model / CONFIG_FILE, *files])
    for model in (PROMPT_ENCODER, TEXT_TO_VIDEO):
        code = version_dir(repository_dir, model) / CODE_FILE
        _check(repository_dir, [repository_dir / model / CONFIG_FILE, code])
    _check(repository_dir, [assets_dir(repository_dir) / name for name in ASSETS])
    others = _other_graphs(repository_dir)
    for model in others:
        files = [version_dir(repository_dir, model) / MODEL_FILE]
        _check(repository_dir, [repository_dir / model / CONFIG_FILE, *files])
    if not policies.policies:
        raise RepositoryIncomplete("policies.json names no policy; make one with: unsee export")
    return [*others, *SERVED_MODELS]


def _other_graphs(repository_dir: Path) -> list[str]:
    """The graphs that not every base has."""
    try:
        base = read_base(base_file(repository_dir))
    except (OSError, ValueError) as error:
        raise RepositoryIncomplete(
            f"the model repository {repository_dir} cannot be served: {error}; make it again with: "
            "unsee export"
        ) from error
    return [VAE_DECODER_NEXT] if base.latents.frames_per_latent > 1 else []


def _check(repository_dir: Path, files: list[Path]) -> None:
    for file in files:
        if not file.is_file() or not file.stat().st_size:
            name, state = file.relative_to(repository_dir), "empty" if file.is_file() else "missing"
            raise RepositoryIncomplete(
                f"the model repository {repository_dir} is incomplete: {name} is {state}; "
                "make it with: unsee export"
            )
