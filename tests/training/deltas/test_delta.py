"""Deltas in memory: what they hold of a tuned encoder."""

import torch

from unsee.deltas.delta import tensor_differences
from unsee.models.base import Base


def test_differences_hold_only_what_changed(base: Base) -> None:
    before = base.text_encoder().state_dict()
    name = next(iter(before))
    after = before | {name: (before[name] + 1).double()}
    found = tensor_differences(after, before)
    assert set(found) == {name}
    torch.testing.assert_close(found[name], torch.ones_like(before[name]))
    assert not tensor_differences(before, before)
