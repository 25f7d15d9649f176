"""What the tests of training share: one tiny base and a way to make deltas without training."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from delta_fakes import BLIMBO, delta_of
from PIL import Image

from unsee.core.policy import Concept

if TYPE_CHECKING:  # a quick run imports nothing of PyTorch
    from unsee.deltas.delta import Delta
    from unsee.models.base import Base


@pytest.fixture(scope="session")
def base_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from fakes import write_tiny_base

    return write_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def own_base_dir(base_dir: Path, tmp_path: Path) -> Path:
    """A copy of the base for a test that changes it."""
    return shutil.copytree(base_dir, tmp_path / "base", symlinks=True)


@pytest.fixture(scope="session")
def base(base_dir: Path) -> Base:
    from unsee.models.base import load_base

    return load_base(base_dir)


@pytest.fixture(scope="session")
def wordy_base(base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """A base without a prompts file whose tokenizer knows the words of ordinary prompts."""
    from fakes import add_words
    from unsee.models.base import load_base
    from unsee.prompts.ordinary import ordinary_prompts

    folder = tmp_path_factory.mktemp("wordy") / "base"
    shutil.copytree(base_dir, folder, symlinks=True)
    texts = " ".join(prompt.lower() for prompt in ordinary_prompts() if prompt.isascii())
    add_words(folder, *sorted(set(re.findall(r"[a-z]{2,}", texts))))
    return load_base(folder)


@pytest.fixture(scope="session")
def blimbo() -> Concept:
    return BLIMBO


@pytest.fixture(scope="session")
def images() -> list[Image.Image]:
    return [Image.effect_noise((80, 64), 60 + 10 * index).convert("RGB") for index in range(4)]


@pytest.fixture(scope="session")
def make_delta(base: Base) -> Callable[..., Delta]:
    return partial(delta_of, base)
