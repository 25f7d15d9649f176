"""Composing: the order does not matter, nothing is lost, and what does not belong is refused."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, permutations

import pytest
import torch
from delta_fakes import random_edit
from encoder_fakes import WIDTH, new_clip
from hypothesis import given, settings
from hypothesis import strategies as st

from unsee.core.errors import DeltaMismatch
from unsee.core.unlearning_settings import AnchoredMode
from unsee.deltas.composition import Merge, compose, merged
from unsee.deltas.delta import Delta
from unsee.deltas.edit import Edit, edited
from unsee.models.base import Base

DeltaMaker = Callable[..., Delta]

MERGES: tuple[Merge, ...] = ("product", "sum")
each_merge = pytest.mark.parametrize("merge", MERGES)


@pytest.fixture
def delta(base: Base, make_delta: DeltaMaker) -> Delta:
    return make_delta(_differences(base, 0))


def _differences(base: Base, seed: int, scale: float = 1.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    parameters = base.family().paper_parameters(base.text_encoder())
    return {
        name: scale * torch.randn(parameter.shape, generator=generator)
        for name, parameter in list(parameters.items())[seed % 3 :: 2]
    }


@pytest.fixture(scope="session")
def make_edit(make_delta: DeltaMaker) -> DeltaMaker:
    """The delta of a random edit, by its seed."""

    def make(seed: int, rank: int = 2, **card: object) -> Delta:
        tensors = random_edit(seed, rank).tensors()
        return make_delta(tensors, method="anchored", settings=AnchoredMode(), **card)

    return make


def test_composing_nothing_is_the_base(base: Base) -> None:
    assert compose(base.text_encoder(), []) is base.text_encoder()


_SEEDS_AND_SCALES = st.lists(
    st.tuples(st.integers(0, 50), st.sampled_from([1e-6, 1e-2, 1.0, 1e4])),
    min_size=1,
    max_size=3,
    unique_by=lambda pair: pair[0],
)


def test_differences_are_summed_in_any_order(base: Base, make_delta: DeltaMaker) -> None:
    @given(chosen=_SEEDS_AND_SCALES)
    @settings(max_examples=15, deadline=None)
    def check(chosen: list[tuple[int, float]]) -> None:
        deltas = [make_delta(_differences(base, seed, scale)) for seed, scale in chosen]
        _check_sum_in_any_order(base, deltas)

    check()


def _check_sum_in_any_order(base: Base, deltas: list[Delta]) -> None:
    original = base.text_encoder().state_dict()
    results = [compose(base.text_encoder(), order).state_dict() for order in permutations(deltas)]
    for name, tensor in results[0].items():
        assert all(torch.equal(tensor, other[name]) for other in results[1:])
        parts = [delta.tensors[name].double() for delta in deltas if name in delta.tensors]
        total = original[name].double() + sum(parts, torch.zeros(()))
        torch.testing.assert_close(tensor, total.float(), rtol=1e-6, atol=1e-9)
        assert parts or torch.equal(tensor, original[name])


@each_merge
def test_edits_and_differences_act_together_in_any_order(
    base: Base, make_delta: DeltaMaker, make_edit: DeltaMaker, merge: Merge
) -> None:
    @given(seed=st.integers(0, 500), num_edits=st.integers(1, 3), is_mixed=st.booleans())
    @settings(max_examples=10, deadline=None)
    def check(seed: int, num_edits: int, is_mixed: bool) -> None:
        edits = [make_edit(seed + index, 1 + index) for index in range(num_edits)]
        differences = [make_delta(_differences(base, seed, 0.01))] if is_mixed else []
        _check_together(base, edits, differences, merge)

    check()


def _check_together(base: Base, edits: list[Delta], differences: list[Delta], merge: Merge) -> None:
    text_encoder = base.text_encoder()
    deltas = [*differences, *edits]
    first, *others = (compose(text_encoder, order, merge) for order in permutations(deltas))
    for other in others:
        for name, tensor in first.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name]), name

    inner = compose(text_encoder, differences)
    in_order = sorted(edits, key=lambda delta: delta.card.tensors_digest)
    edit = merged([Edit.of(delta.tensors) for delta in in_order], merge)
    assert edit.rank == sum(Edit.of(delta.tensors).rank for delta in edits)
    expected = edited(inner, edit).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in first.state_dict().items())


_SEEDS = st.lists(st.integers(0, 999), min_size=1, max_size=4, unique=True)


def test_a_product_is_one_edit_after_the_other() -> None:
    @given(seeds=_SEEDS)
    @settings(deadline=None)
    def check(seeds: list[int]) -> None:
        expected = _states()
        for seed in seeds:
            expected = random_edit(seed)(expected)
        _check_map([random_edit(seed) for seed in seeds], "product", expected)

    check()


def test_a_sum_adds_what_each_edit_changes() -> None:
    @given(seeds=_SEEDS)
    @settings(deadline=None)
    def check(seeds: list[int]) -> None:
        states = _states()
        changes = [random_edit(seed)(states) - states for seed in seeds]
        _check_map(
            [random_edit(seed) for seed in seeds], "sum", states + torch.stack(changes).sum(0)
        )

    check()


def test_a_product_of_products_is_the_product_of_all() -> None:
    one, two, three = (random_edit(seed) for seed in range(3))
    left = merged([merged([one, two], "product"), three], "product")
    right = merged([one, merged([two, three], "product")], "product")
    for first, second in zip(vars(left).values(), vars(right).values(), strict=True):
        torch.testing.assert_close(first, second)


@each_merge
def test_one_edit_alone_is_itself(merge: Merge) -> None:
    alone, edit = merged([random_edit(7)], merge), random_edit(7)
    assert all(torch.equal(getattr(alone, name), value) for name, value in vars(edit).items())


def _check_map(edits: list[Edit], merge: Merge, expected: torch.Tensor) -> None:
    torch.testing.assert_close(merged(edits, merge)(_states()), expected, atol=1e-4, rtol=1e-4)


def _states() -> torch.Tensor:
    return torch.randn(7, WIDTH, generator=torch.Generator().manual_seed(8))


def test_the_ways_of_merging_differ_where_edits_overlap(base: Base, make_edit: DeltaMaker) -> None:
    one, two = make_edit(0), make_edit(1)
    overlapping = two.tensors | {"edit.up": one.tensors["edit.up"] + two.tensors["edit.up"]}
    deltas = [one, replace(two, tensors=overlapping)]
    results = [compose(base.text_encoder(), deltas, merge).state_dict() for merge in MERGES]
    added = results[0].keys() - base.text_encoder().state_dict().keys()
    for first, second in combinations(results, 2):
        assert any(not torch.equal(first[name], second[name]) for name in added)


def test_a_delta_of_another_base_is_refused(
    base: Base, delta: Delta, make_edit: DeltaMaker
) -> None:
    elsewhere = {"base": "elsewhere", "base_digest": "sha256:" + "0" * 64}
    for made in (delta, make_edit(0)):
        foreign = replace(made, card=made.card.model_copy(update=elsewhere))
        with pytest.raises(DeltaMismatch, match="'Blimbo' was made for the base 'elsewhere'"):
            compose(base.text_encoder(), [foreign])
        with pytest.raises(DeltaMismatch, match="made for the base 'tiny'"):
            compose(new_clip(), [made])


def test_a_foreign_tensor_and_a_repeated_delta_are_refused(
    base: Base, delta: Delta, make_delta: DeltaMaker, make_edit: DeltaMaker
) -> None:
    foreign = make_delta({"no.such.weight": torch.ones(2)})
    with pytest.raises(DeltaMismatch, match=r"changes no\.such\.weight \[2\]"):
        compose(base.text_encoder(), [foreign])
    for twice in (delta, make_edit(0)):
        with pytest.raises(DeltaMismatch, match="'Blimbo' is given twice"):
            compose(base.text_encoder(), [twice, twice])


def test_a_delta_of_version_0_1_composes_as_the_same_edit_of_today(
    base: Base, make_delta: DeltaMaker, make_edit: DeltaMaker
) -> None:
    today = make_edit(3)
    evidence = {"evidence.kept": torch.eye(WIDTH), "evidence.mean": torch.zeros(WIDTH)}
    stored = make_delta(today.tensors | evidence, method="anchored", settings=AnchoredMode())
    expected = compose(base.text_encoder(), [today]).state_dict()
    composed = compose(base.text_encoder(), [stored]).state_dict()
    assert all(torch.equal(composed[name], tensor) for name, tensor in expected.items())


def test_an_encoder_with_a_lora_is_refused(base: Base, delta: Delta) -> None:
    with_lora = base.text_encoder().__class__(base.text_encoder().config)
    with_lora.register_parameter("lora_A", torch.nn.Parameter(torch.zeros(2)))
    with pytest.raises(DeltaMismatch, match="a LoRA is loaded into this text encoder"):
        compose(with_lora, [delta])
