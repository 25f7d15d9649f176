"""What the tests of evaluation share: one tiny base that can be asked, and a tuned delta of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from delta_fakes import BLIMBO, delta_of

from unsee.core.policy import Concept
from unsee.evaluation.asking.evaluation_set import EvaluationSet

if TYPE_CHECKING:  # a quick run imports nothing of PyTorch
    from unsee.deltas.delta import Delta
    from unsee.models.base import Base

TINY_SET = {
    "concepts": [
        {"name": "Blimbo", "category": "character", "aliases": ["Blimby"]},
        {"name": "Zorpik", "category": "character"},
        {"name": "Mipsu", "category": "character"},
        {"name": "umbrella", "category": "object"},
        {"name": "spinning", "category": "action"},
        {"name": "desert", "category": "background", "phrase": "the desert"},
        {"name": "ocean", "category": "background", "phrase": "the ocean"},
    ],
    "templates": {
        "character": {
            "alone": ["{}", "a picture of {}"],
            "context": ["{} in {background}"],
            "long": ["{} in {background}, high quality"],
            "neutral": "something",
        },
        "action": {
            "alone": ["{character} {}"],
            "context": ["{character} {} in {background}"],
            "long": ["a clip of {character} {}"],
            "neutral": "resting",
        },
    },
    "shared_words": [{"prompt": "Mipsu, oh", "concept": "Mipsu", "shares": ["Blimbo"]}],
}


@pytest.fixture(scope="session")
def base_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base with an `evaluation.yaml`."""
    from fakes import write_tiny_base
    from unsee.models.spec import BASE_FILE

    folder = write_tiny_base(tmp_path_factory.mktemp("base"))
    (folder / "evaluation.yaml").write_text(yaml.safe_dump(TINY_SET))
    spec = yaml.safe_load((folder / BASE_FILE).read_text()) | {"evaluation": "evaluation.yaml"}
    (folder / BASE_FILE).write_text(yaml.safe_dump(spec))
    return folder


@pytest.fixture(scope="session")
def base(base_dir: Path) -> Base:
    from unsee.models.base import load_base

    return load_base(base_dir)


@pytest.fixture(scope="session")
def blimbo() -> Concept:
    return BLIMBO


@pytest.fixture(scope="session")
def delta(base: Base) -> Delta:
    """A delta that moves every trained tensor, large enough to be seen in frames."""
    import torch

    generator = torch.Generator().manual_seed(3)
    tensors = {
        name: 0.3 * torch.randn(parameter.shape, generator=generator)
        for name, parameter in base.family().paper_parameters(base.text_encoder()).items()
    }
    return delta_of(base, tensors)


@pytest.fixture(scope="session")
def delta_dir(delta: Delta, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from unsee.deltas.folder import save_delta

    folder = tmp_path_factory.mktemp("deltas") / "blimbo"
    save_delta(delta, folder)
    return folder


@pytest.fixture
def known() -> EvaluationSet:
    return EvaluationSet.model_validate(TINY_SET)
