"""Deltas of tensors that a test made up, without any learning."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unsee.core.errors import DeltaDamaged
from unsee.core.policy import Concept
from unsee.core.unlearning_settings import PaperMode

if TYPE_CHECKING:  # a quick run imports nothing of PyTorch
    import torch

    from unsee.deltas.delta import Delta
    from unsee.deltas.edit import Edit
    from unsee.models.base import Base

BLIMBO = Concept(name="Blimbo", category="character", aliases=("Blimby",))


def delta_of(base: Base, tensors: dict[str, torch.Tensor], **card: object) -> Delta:
    """A delta of paper mode against Blimbo, unless `card` has other fields."""
    from unsee.deltas.delta import Card, Delta
    from unsee.models.digest import tensors_digest

    fields: dict[str, object] = {
        "base": base.name,
        "base_digest": base.digest(),
        "concept": BLIMBO,
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


def random_edit(width: int, rank: int = 3, seed: int = 0) -> Edit:
    """An edit of random directions, large enough to be seen."""
    import torch

    from unsee.deltas.edit import Edit

    generator = torch.Generator().manual_seed(seed)
    up = torch.linalg.qr(torch.randn(width, rank, generator=generator)).Q.contiguous()
    return Edit(up, up.T.contiguous(), torch.randn(rank, generator=generator))


def assert_flipped_bits_are_found(
    folder: Path, read: Callable[[Path], object], examples: int
) -> None:
    """`read` refuses `folder`, naming the file, whichever bit of whichever of its files changes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())

    @given(st.data())
    @settings(max_examples=examples, deadline=None)
    def check(data: st.DataObject) -> None:
        file = data.draw(st.sampled_from(files))
        content = file.read_bytes()
        position = data.draw(st.integers(0, len(content) - 1))
        changed = bytes([content[position] ^ 1 << data.draw(st.integers(0, 7))])
        file.write_bytes(content[:position] + changed + content[position + 1 :])
        try:
            with pytest.raises(DeltaDamaged) as refusal:
                read(folder)
        finally:
            file.write_bytes(content)
        assert str(refusal.value).startswith(f"{file} ")

    check()
    read(folder)
