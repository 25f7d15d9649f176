"""The appended layer says what the edit says, in every encoder that can carry one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from delta_fakes import random_edit
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTextConfig, CLIPTextModel

from unsee.core.errors import BaseFolderError
from unsee.deltas.appended_layer import with_appended_layer
from unsee.deltas.edit import Edit, edited, final_layer_norm

SIZE = 32
SHORT_OF_EXACT = 2e-3
"""1/1024 of the unedited state stays, about as large as what the edits below leave of it."""


def _encoder(seed: int = 0, scale: float = 1.0, **config: Any) -> CLIPTextModel:
    """A random encoder whose last states are about `scale` times as large as they would be."""
    fields: dict[str, Any] = {
        "vocab_size": 60,
        "hidden_size": SIZE,
        "intermediate_size": 2 * SIZE,
        "projection_dim": SIZE,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 12,
        "bos_token_id": 58,
        "eos_token_id": 59,
        "pad_token_id": 59,
    }
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        text_encoder = CLIPTextModel(CLIPTextConfig(**fields | config)).eval()
        norm = final_layer_norm(text_encoder)
        norm.weight.normal_(1.0, 0.3)
        norm.bias.normal_(0.0, 0.3)
        for name, parameter in text_encoder.named_parameters():
            if name.endswith(("fc2.weight", "out_proj.weight")):
                parameter.mul_(scale)
    return text_encoder


def _identity(size: int = SIZE) -> Edit:
    return Edit(torch.zeros(size, 1), torch.zeros(1, size), torch.zeros(1))


@torch.no_grad()
def _said(text_encoder: CLIPTextModel, ids: torch.Tensor) -> torch.Tensor:
    said: torch.Tensor = text_encoder(ids).last_hidden_state
    return said


def _meant(text_encoder: CLIPTextModel, edit: Edit, ids: torch.Tensor) -> torch.Tensor:
    return _said(edited(text_encoder, edit), ids)


def _ids(text_encoder: CLIPTextModel, seed: int = 0) -> torch.Tensor:
    config = text_encoder.config
    generator = torch.Generator().manual_seed(seed)
    shape = (6, config.max_position_embeddings)
    return torch.randint(config.vocab_size, shape, generator=generator)


def _distance(left: torch.Tensor, right: torch.Tensor) -> float:
    return float((left - right).norm() / right.norm())


ACTIVATIONS = ("quick_gelu", "gelu", "gelu_new", "gelu_pytorch_tanh", "silu", "relu")
each_activation = pytest.mark.parametrize("activation", ACTIVATIONS)


@each_activation
def test_the_identity_changes_next_to_nothing(activation: str) -> None:
    text_encoder = _encoder(hidden_act=activation)
    ids = _ids(text_encoder)
    carried = with_appended_layer(text_encoder, _identity())
    assert _distance(_said(carried, ids), _said(text_encoder, ids)) < 1e-4


@each_activation
def test_the_layer_says_what_the_edit_says(activation: str) -> None:
    @given(seed=st.integers(0, 999), rank=st.integers(1, 8), scale=st.sampled_from([1.0, 30.0]))
    @settings(max_examples=8, deadline=None)
    def check(seed: int, rank: int, scale: float) -> None:
        text_encoder, edit = _encoder(seed, scale, hidden_act=activation), random_edit(seed, rank)
        ids = _ids(text_encoder, seed)
        meant = _meant(text_encoder, edit, ids)
        assert _distance(meant, _said(text_encoder, ids)) > 10 * SHORT_OF_EXACT
        carried = with_appended_layer(text_encoder, edit)
        assert _distance(_said(carried, ids), meant) < SHORT_OF_EXACT

    check()


def test_the_result_is_an_ordinary_encoder_with_a_layer_more(tmp_path: Path) -> None:
    text_encoder = _encoder()
    before = {name: tensor.clone() for name, tensor in text_encoder.state_dict().items()}
    carried = with_appended_layer(text_encoder, random_edit(0))
    assert type(carried) is CLIPTextModel
    assert carried.config.num_hidden_layers == 3
    carried.save_pretrained(tmp_path)
    loaded = CLIPTextModel.from_pretrained(tmp_path).eval()
    ids = _ids(text_encoder)
    assert torch.equal(_said(loaded, ids), _said(carried, ids))

    assert text_encoder.config.num_hidden_layers == 2
    assert text_encoder.state_dict().keys() == before.keys()
    for name, tensor in before.items():
        assert torch.equal(text_encoder.state_dict()[name], tensor)
        assert torch.equal(carried.state_dict()[name], tensor)


def test_an_edited_encoder_can_be_edited_again() -> None:
    text_encoder = _encoder()
    ids = _ids(text_encoder)
    once = with_appended_layer(text_encoder, random_edit(0))
    twice = with_appended_layer(once, random_edit(1))
    assert twice.config.num_hidden_layers == 4
    assert _distance(_said(twice, ids), _meant(once, random_edit(1), ids)) < SHORT_OF_EXACT


@pytest.mark.parametrize(
    "config",
    [
        {"num_hidden_layers": 12, "eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1},
        {"num_hidden_layers": 23, "hidden_act": "gelu", "num_attention_heads": 2},
    ],
    ids=["as CLIP ViT-L of Stable Diffusion 1", "as OpenCLIP ViT-H of Stable Diffusion 2"],
)
def test_published_shapes(config: dict[str, Any]) -> None:
    config |= {"intermediate_size": 4 * SIZE, "max_position_embeddings": 77}
    text_encoder = _encoder(**config)
    ids = _ids(text_encoder)
    edit = random_edit(5, rank=6)
    carried = with_appended_layer(text_encoder, edit)
    assert _distance(_said(carried, ids), _meant(text_encoder, edit, ids)) < SHORT_OF_EXACT


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"hidden_act": "tanh"}, "activation 'tanh' cannot carry an edit; known are quick_gelu"),
        ({"intermediate_size": 2 * SIZE - 1}, "have 63 neurons for 32 values"),
    ],
)
def test_an_encoder_that_cannot_carry_an_edit_is_refused(
    config: dict[str, Any], words: str
) -> None:
    with pytest.raises(BaseFolderError, match=words):
        with_appended_layer(_encoder(**config), _identity())
