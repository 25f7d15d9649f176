"""The denoising error in several passes: the same values and gradients, less in memory."""

import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unsee.images import denoising
from unsee.images.denoising import Denoising, load_denoising
from unsee.models.base import Base

POSITIONS = 64  # of one picture's latents


class Samples:
    """What the denoiser is given for `count` pictures."""

    def __init__(self, count: int) -> None:
        generator = torch.Generator().manual_seed(count)
        self.latents = torch.randn(count, 4, 8, 8, generator=generator)
        self.noise = torch.randn(count, 4, 8, 8, generator=generator)
        self.levels = torch.randint(1000, (count,), generator=generator)
        self.embeds = torch.randn(count, 48, 32, generator=generator).requires_grad_(True)
        self.weights = torch.randn(count, generator=generator)

    def errors(self, frozen: Denoising, *, in_one_pass: bool = False) -> torch.Tensor:
        errors = frozen.errors_of_one_pass if in_one_pass else frozen.errors
        return errors(self.latents, self.noise, self.levels, self.embeds)


class Kept:
    """A tensor that a graph keeps for its gradient."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


@settings(max_examples=10, deadline=None)
@given(count=st.integers(1, 5), at_once=st.integers(1, 6 * POSITIONS))
def test_several_passes_give_what_one_gives(base: Base, count: int, at_once: int) -> None:
    frozen, samples = load_denoising(base), Samples(count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(denoising, "_POSITIONS_AT_ONCE", at_once)
        found = samples.errors(frozen)
        (gradient,) = torch.autograd.grad(found @ samples.weights, samples.embeds)
    wanted = samples.errors(frozen, in_one_pass=True)
    (exact,) = torch.autograd.grad(wanted @ samples.weights, samples.embeds)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(gradient, exact)


def test_no_pass_is_larger_than_allowed_and_none_is_kept(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(denoising, "_POSITIONS_AT_ONCE", 2 * POSITIONS)
    kept: weakref.WeakSet[Kept] = weakref.WeakSet()
    sizes: list[int] = []
    alive: list[int] = []

    def watch(module: object, inputs: tuple[torch.Tensor, ...]) -> None:
        sizes.append(len(inputs[0]))
        alive.append(len(kept))

    def keep(tensor: torch.Tensor) -> Kept:
        kept.add(one := Kept(tensor))
        return one

    handle = base.denoiser().register_forward_pre_hook(watch)
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda one: one.tensor):
            errors = Samples(5).errors(load_denoising(base))
    finally:
        handle.remove()
    assert sizes == [2, 2, 1]
    assert alive == [0, 0, 0]
    assert errors.requires_grad


def test_without_gradients_there_is_no_graph(base: Base) -> None:
    frozen, samples = load_denoising(base), Samples(2)
    with torch.no_grad():
        assert not samples.errors(frozen).requires_grad
    samples.embeds.requires_grad_(False)
    assert not samples.errors(frozen).requires_grad
