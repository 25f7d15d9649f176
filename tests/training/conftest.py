"""What the tests of training share: one tiny base and a way to make deltas without training."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from unsee.core.policy import Concept
from unsee.core.unlearning_settings import PaperMode

if TYPE_CHECKING:  # a quick run imports nothing of PyTorch
    import torch

    from unsee.deltas.delta import Delta
    from unsee.models.base import Base


@pytest.fixture(scope="session")
def base_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from fakes import write_tiny_base

    return write_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def base(base_dir: Path) -> Base:
    from unsee.models.base import load_base

    return load_base(base_dir)


@pytest.fixture(scope="session")
def blimbo() -> Concept:
    return Concept(name="Blimbo", category="character", aliases=("Blimby",))


@pytest.fixture(scope="session")
def images() -> list[Image.Image]:
    return [Image.effect_noise((80, 64), 60 + 10 * index).convert("RGB") for index in range(4)]


@pytest.fixture(scope="session")
def make_delta(base: Base, blimbo: Concept) -> Callable[..., Delta]:
    from unsee.deltas.delta import Card, Delta
    from unsee.models.digest import tensors_digest

    def make(tensors: dict[str, torch.Tensor], **card: object) -> Delta:
        fields: dict[str, object] = {
            "base": base.name,
            "base_digest": base.digest(),
            "concept": blimbo,
            "method": "paper",
            "settings": PaperMode(),
            "seed": 0,
            "image_source": "given",
            "images_digest": "sha256:0",
            "prompts": (),
            "losses": (-1.0,),
            "stopped": "all 1 steps were taken",
            "versions": {},
            "seconds": {},
            "created_at": datetime(2026, 1, 1, tzinfo=UTC),
            "tensors_digest": tensors_digest(tensors),
        }
        return Delta(card=Card.model_validate(fields | card), tensors=tensors)

    return make
