"""Which models of a repository to load, after a look whether every one of them is whole.

Triton's own words for a half-written repository are pages of log; these are one sentence.
"""

from __future__ import annotations

from pathlib import Path

from unsee.core.errors import RepositoryIncomplete
from unsee.core.policy import BASE_POLICY
from unsee.repository.base import check_graphs, read_base
from unsee.repository.layout import (
    ASSETS,
    CODE_FILE,
    CONFIG_FILE,
    EXPORT_FILE,
    GRAPH_MODELS,
    MODEL_FILE,
    PROMPT_ENCODER,
    SERVED_MODELS,
    TEXT_TO_VIDEO,
    VAE_DECODER_NEXT,
    assets_dir,
    base_file,
    policy_model,
    version_dir,
)
from unsee.repository.pointer import read


def loadable_models(repository_dir: Path) -> list[str]:
    """The names of the models to load at start; raises RepositoryIncomplete or InputError.

    Other policies than the base's are not looked at: a revision that is missing fails those who ask
    for it and nobody else, and only a server that runs can take another in its place.
    """
    policies = read(repository_dir)
    base_policy = [policy_model(BASE_POLICY)] if BASE_POLICY in policies.policies else []
    for model in (*GRAPH_MODELS, *base_policy):
        _check_graph(repository_dir, model)
    for model in (PROMPT_ENCODER, TEXT_TO_VIDEO):
        code = version_dir(repository_dir, model) / CODE_FILE
        _check(repository_dir, [repository_dir / model / CONFIG_FILE, code])
    _check(repository_dir, [assets_dir(repository_dir) / name for name in ASSETS])
    others = _other_graphs(repository_dir)
    for model in others:
        _check_graph(repository_dir, model)
    if not policies.policies:
        raise RepositoryIncomplete("policies.json names no policy; make one with: unsee export")
    return [*others, *SERVED_MODELS]


def export_records(repository_dir: Path) -> tuple[bytes | None, ...]:
    """What the base's record and those of its graphs hold, None for one that is not there.

    It is another after another export, from the first graph on that this writes.
    """
    graphs = (*GRAPH_MODELS, VAE_DECODER_NEXT)
    exports = [version_dir(repository_dir, model) / EXPORT_FILE for model in graphs]
    files = (base_file(repository_dir), *exports)
    return tuple(file.read_bytes() if file.is_file() else None for file in files)


def _other_graphs(repository_dir: Path) -> list[str]:
    """The graphs that not every base has; all must be of one export."""
    try:
        base = read_base(base_file(repository_dir))
        check_graphs(base, lambda model: version_dir(repository_dir, model) / EXPORT_FILE)
    except (OSError, ValueError) as error:
        raise RepositoryIncomplete(
            f"the model repository {repository_dir} cannot be served: {error}; make it again with: "
            "unsee export"
        ) from error
    return [VAE_DECODER_NEXT] if base.latents.frames_per_latent > 1 else []


def _check_graph(repository_dir: Path, model: str) -> None:
    file = version_dir(repository_dir, model) / MODEL_FILE
    _check(repository_dir, [repository_dir / model / CONFIG_FILE, file])


def _check(repository_dir: Path, files: list[Path]) -> None:
    for file in files:
        if not file.is_file() or not file.stat().st_size:
            name, state = file.relative_to(repository_dir), "empty" if file.is_file() else "missing"
            raise RepositoryIncomplete(
                f"the model repository {repository_dir} is incomplete: {name} is {state}; "
                "make it with: unsee export"
            )
