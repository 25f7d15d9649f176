"""Edits: what an edited encoder says, of every kind that ends in a normalisation."""

import copy
import gc
from typing import Any

import pytest
import torch
from delta_fakes import random_edit
from encoder_fakes import KINDS, WIDTH, new_t5

from unsee.core.errors import BaseFolderError
from unsee.deltas.edit import (
    Edit,
    EditedNorm,
    edited,
    final_layer_norm,
    is_edit,
    standardised,
    trunk,
)

SIZE, LENGTH = WIDTH, 12
MASK = torch.tensor([[1] * LENGTH, [1] * 5 + [0] * (LENGTH - 5)])


@pytest.fixture(params=KINDS)
def text_encoder(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param].made()


def _ids() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(4, 100, (2, LENGTH), generator=generator)


@torch.no_grad()
def _said(text_encoder: Any, mask: torch.Tensor | None = None) -> torch.Tensor:
    said: torch.Tensor = text_encoder(_ids(), attention_mask=mask).last_hidden_state
    return said


def test_an_edited_encoder_normalises_edited_states(text_encoder: Any) -> None:
    states, norm = _said(trunk(text_encoder)), final_layer_norm(text_encoder)
    meant = norm(random_edit()(standardised(norm, states)))
    torch.testing.assert_close(_said(edited(text_encoder, random_edit())), meant)
    assert (meant - _said(text_encoder)).norm() > 0.1 * meant.norm()


def test_standardised_states_are_what_the_norm_gives_without_its_weights(text_encoder: Any) -> None:
    plain = copy.deepcopy(final_layer_norm(text_encoder))
    for name, parameter in plain.named_parameters():
        parameter.data.fill_(1.0 if name == "weight" else 0.0)
    states = _said(trunk(text_encoder))
    torch.testing.assert_close(standardised(plain, states), plain(states))


def test_the_weights_are_the_bases_and_stay_as_they_are(text_encoder: Any) -> None:
    before = {name: tensor.clone() for name, tensor in text_encoder.state_dict().items()}
    said = _said(text_encoder)
    both = (edited(text_encoder, random_edit()), trunk(text_encoder))
    places = {tensor.data_ptr() for tensor in text_encoder.parameters()}
    for made in both:
        assert {tensor.data_ptr() for tensor in made.parameters()} <= places
        _said(made)
    assert text_encoder.state_dict().keys() == before.keys()
    assert all(torch.equal(text_encoder.state_dict()[name], before[name]) for name in before)
    assert torch.equal(_said(text_encoder), said)


def test_masked_positions_are_edited_only_where_the_denoiser_reads_them(text_encoder: Any) -> None:
    plain, changed = _said(text_encoder, MASK), _said(edited(text_encoder, random_edit()), MASK)
    same = (plain == changed).all(-1)
    is_clip = "CLIP" in type(text_encoder).__name__
    assert torch.equal(same, torch.zeros_like(same) if is_clip else MASK == 0)


def test_a_mask_of_one_call_is_not_that_of_the_next(text_encoder: Any) -> None:
    changed = edited(text_encoder, random_edit())
    unmasked = _said(changed)
    _said(changed, MASK)
    assert torch.equal(_said(changed), unmasked)


def test_the_mask_of_a_call_may_lie_on_another_device_than_the_last_layer() -> None:
    norm = EditedNorm(final_layer_norm(new_t5()).to("meta"), random_edit())
    norm.mask = MASK
    assert norm(torch.empty(2, LENGTH, SIZE, device="meta")).shape == (2, LENGTH, SIZE)


def test_an_edited_encoder_can_be_copied_and_edited_again(text_encoder: Any) -> None:
    once = edited(text_encoder, random_edit(0))
    assert torch.equal(_said(copy.deepcopy(once), MASK), _said(once, MASK))
    twice = _said(edited(once, random_edit(1)))
    same = (_said(edited(once, random_edit(1)), MASK) == _said(text_encoder, MASK)).all(-1)
    is_clip = "CLIP" in type(text_encoder).__name__
    assert torch.equal(same, torch.zeros_like(same) if is_clip else MASK == 0)
    states, norm = _said(trunk(text_encoder)), final_layer_norm(text_encoder)
    again = standardised(norm, random_edit(1)(standardised(norm, states)))
    torch.testing.assert_close(twice, norm(random_edit(0)(again)), rtol=1e-4, atol=1e-4)


def test_the_unedited_encoder_goes_when_nobody_needs_it() -> None:
    text_encoder = KINDS["CLIPTextModel"].made()
    changed = edited(text_encoder, random_edit())
    del text_encoder
    gc.collect()
    assert torch.isfinite(_said(changed)).all()


def test_a_model_without_a_final_norm_is_refused() -> None:
    with pytest.raises(BaseFolderError, match="Linear has no final_layer_norm"):
        final_layer_norm(torch.nn.Linear(2, 2))


def test_tensors_there_and_back() -> None:
    edit = random_edit()
    tensors = edit.tensors()
    assert is_edit(tensors)
    assert not is_edit(tensors | {"more": torch.zeros(1)})
    assert not is_edit({name: tensors[name] for name in list(tensors)[1:]})
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
    again = Edit.of(tensors)
    assert vars(again).keys() == vars(edit).keys()
    assert all(torch.equal(getattr(again, name), value) for name, value in vars(edit).items())


def test_the_tensors_that_version_0_1_stored_beside_an_edit_are_read_past() -> None:
    edit = random_edit()
    stored = edit.tensors() | {
        "evidence.kept": torch.eye(SIZE),
        "evidence.mean": torch.rand(SIZE),
    }
    assert is_edit(stored)
    assert torch.equal(Edit.of(stored).up, edit.up)
