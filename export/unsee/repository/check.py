"""Which models of a repository to load, after a look whether every one of them is whole.

Triton's own words for a half-written repository are pages of log; these are one sentence. Knows the
layout that the exporter writes, but neither what is in the files nor a running server.
"""

from __future__ import annotations

from pathlib import Path

from unsee.core.errors import RepositoryIncomplete
from unsee.repository.pointer import Policies, read

GRAPH_MODELS = ("video_unet", "vae_decoder")
TEXT_TO_VIDEO = "text_to_video"
ASSETS = ("base.json", "tokenizer.json", "samplers.safetensors")


def loadable_models(repository_dir: Path) -> list[str]:
    """The names of the models to load at start; raises RepositoryIncomplete or InputError."""
    policies = read(repository_dir)
    states = sorted(policies.policies.items())
    encoders = {f"text_encoder_{name}": state for name, state in states if state.eligible}
    for model_name in GRAPH_MODELS:
        _check_model(repository_dir, model_name, [1])
    for model_name, state in encoders.items():
        _check_model(repository_dir, model_name, list(state.eligible))
    _check_text_to_video(repository_dir)
    _check_policies(policies)
    return [*GRAPH_MODELS, TEXT_TO_VIDEO, *encoders]


def _check_model(repository_dir: Path, model_name: str, versions: list[int]) -> None:
    model_dir = repository_dir / model_name
    _check_file(repository_dir, model_dir / "config.pbtxt")
    present = [int(d.name) for d in model_dir.iterdir() if d.name.isdigit() and d.is_dir()]
    for version in sorted({*versions, *present}):
        _check_file(repository_dir, model_dir / str(version) / "model.onnx")


def _check_text_to_video(repository_dir: Path) -> None:
    model_dir = repository_dir / TEXT_TO_VIDEO
    wanted = [model_dir / "config.pbtxt", model_dir / "1" / "model.py"]
    for file in [*wanted, *(model_dir / "assets" / name for name in ASSETS)]:
        _check_file(repository_dir, file)


def _check_file(repository_dir: Path, file: Path) -> None:
    if not file.is_file() or not file.stat().st_size:
        name, state = file.relative_to(repository_dir), "empty" if file.is_file() else "missing"
        raise RepositoryIncomplete(
            f"the model repository {repository_dir} is incomplete: {name} is {state}; "
            "make it with: unsee export"
        )


def _check_policies(policies: Policies) -> None:
    if not policies.policies:
        raise RepositoryIncomplete("policies.json names no policy; make one with: unsee export")
