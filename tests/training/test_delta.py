"""Deltas: composing them, keeping them in folders, refusing what does not belong."""

from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from fakes import tiny_text_encoder
from unsee.client.errors import InputError
from unsee.training import delta_folder
from unsee.training.base import Base
from unsee.training.delta import Delta, compose, tensor_differences
from unsee.training.delta_folder import load_delta, save_delta
from unsee.training.errors import DeltaDamaged, DeltaMismatch
from unsee.training.layers import paper_parameters

DeltaMaker = Callable[..., Delta]


@pytest.fixture
def delta(base: Base, make_delta: DeltaMaker) -> Delta:
    return make_delta(_random_tensors(base, 0))


def _random_tensors(base: Base, seed: int, scale: float = 1.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    parameters = paper_parameters(base.text_encoder())
    return {
        name: scale * torch.randn(parameter.shape, generator=generator)
        for name, parameter in list(parameters.items())[seed % 3 :: 2]
    }


def test_composing_nothing_is_the_base_bit_for_bit(base: Base) -> None:
    text_encoder = base.text_encoder()
    composed = compose(text_encoder, [])
    assert composed is not text_encoder
    original = text_encoder.state_dict()
    assert composed.state_dict().keys() == original.keys()
    for name, tensor in composed.state_dict().items():
        assert torch.equal(tensor.view(torch.int32), original[name].view(torch.int32))
        assert tensor.data_ptr() != original[name].data_ptr()


_SEEDS_AND_SCALES = st.lists(
    st.tuples(st.integers(0, 50), st.sampled_from([1e-6, 1e-2, 1.0, 1e4])),
    min_size=1,
    max_size=3,
    unique_by=lambda pair: pair[0],
)


def test_composing_is_the_sum_in_any_order(base: Base, make_delta: DeltaMaker) -> None:
    @given(chosen=_SEEDS_AND_SCALES)
    @settings(max_examples=15, deadline=None)
    def check(chosen: list[tuple[int, float]]) -> None:
        deltas = [make_delta(_random_tensors(base, seed, scale)) for seed, scale in chosen]
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


def test_differences_hold_only_what_changed(base: Base) -> None:
    before = base.text_encoder().state_dict()
    name = next(iter(before))
    after = before | {name: before[name] + 1}
    assert set(tensor_differences(after, before)) == {name}


def test_a_delta_of_another_base_is_refused(base: Base, make_delta: DeltaMaker) -> None:
    delta = make_delta(_random_tensors(base, 0), base="elsewhere", base_digest="sha256:" + "0" * 64)
    with pytest.raises(DeltaMismatch, match="'Blimbo' was made for the base 'elsewhere'"):
        compose(base.text_encoder(), [delta])
    with pytest.raises(DeltaMismatch, match="made for the base 'tiny'"):
        compose(tiny_text_encoder(), [make_delta(_random_tensors(base, 0))])


def test_a_foreign_tensor_and_a_repeated_delta_are_refused(
    base: Base, delta: Delta, make_delta: DeltaMaker
) -> None:
    foreign = make_delta({"no.such.weight": torch.ones(2)})
    with pytest.raises(DeltaMismatch, match=r"changes no\.such\.weight \[2\]"):
        compose(base.text_encoder(), [foreign])
    with pytest.raises(DeltaMismatch, match="given twice"):
        compose(base.text_encoder(), [delta, delta])


def test_a_folder_gives_back_what_was_saved(delta: Delta, tmp_path: Path) -> None:
    images = [Image.new("RGB", (4, 4), (index, 0, 0)) for index in range(2)]
    save_delta(delta, tmp_path / "deltas" / "blimbo", images=images)
    loaded = load_delta(tmp_path / "deltas" / "blimbo")
    assert loaded.card == delta.card
    assert loaded.tensors.keys() == delta.tensors.keys()
    assert all(torch.equal(loaded.tensors[name], delta.tensors[name]) for name in delta.tensors)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    folder = "deltas/blimbo/"
    expected = ("delta.safetensors", "card.json", "images/00.png", "images/01.png")
    assert files == {folder + name for name in expected}


def test_tampered_tensors_are_refused_by_name(delta: Delta, tmp_path: Path) -> None:
    folder = tmp_path / "blimbo"
    save_delta(delta, folder)
    file = folder / "delta.safetensors"
    tensors = load_file(file)
    name = next(iter(tensors))
    tensors[name].view(-1)[0] += 1e-6
    save_file(tensors, file)
    with pytest.raises(DeltaDamaged, match=r"blimbo/delta\.safetensors .*'Blimbo'.*digest"):
        load_delta(folder)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DeltaDamaged, match=r"delta\.safetensors .* unreadable"):
        load_delta(folder)
    file.unlink()
    with pytest.raises(DeltaDamaged, match=r"delta\.safetensors .* missing"):
        load_delta(folder)


def test_a_wrong_card_or_none(delta: Delta, tmp_path: Path) -> None:
    folder = tmp_path / "blimbo"
    with pytest.raises(InputError, match="blimbo holds no delta"):
        load_delta(folder)
    save_delta(delta, folder)
    (folder / "card.json").write_text("{}")
    with pytest.raises(DeltaDamaged, match=r"card\.json is not a valid card: base: .*missing"):
        load_delta(folder)


def test_a_folder_is_replaced_only_by_force(
    base: Base, delta: Delta, make_delta: DeltaMaker, tmp_path: Path
) -> None:
    folder = tmp_path / "blimbo"
    save_delta(delta, folder)
    other = make_delta(_random_tensors(base, 1))
    with pytest.raises(InputError, match="already exists"):
        save_delta(other, folder)
    save_delta(other, folder, force=True)
    assert load_delta(folder).card == other.card
    assert list(tmp_path.iterdir()) == [folder]


def test_force_never_touches_other_files(delta: Delta, tmp_path: Path) -> None:
    precious = tmp_path / "thesis.txt"
    precious.write_text("years of work")
    with pytest.raises(InputError, match=r"holds other files \(thesis\.txt\)"):
        save_delta(delta, tmp_path, force=True)
    with pytest.raises(InputError, match="is not a folder"):
        save_delta(delta, precious, force=True)
    assert precious.read_text() == "years of work"


@pytest.mark.parametrize("stage", ["_write", "_move_into_place", "_sync"])
def test_an_interrupted_save_leaves_nothing(
    delta: Delta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(delta_folder, stage, interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_delta(delta, tmp_path / "blimbo")
    assert list(tmp_path.iterdir()) == []
