"""The parameters that unlearning trains, for encoders of several depths and prefixes."""

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from fakes import HIDDEN_SIZE, tiny_text_encoder
from unsee.core.errors import BaseFolderError
from unsee.models.text.layers import paper_parameters


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_every_mlp_and_the_last_self_attention(depth: int) -> None:
    text_encoder = tiny_text_encoder(num_hidden_layers=depth)
    names = paper_parameters(text_encoder)
    mlps = [name for name in names if ".mlp.fc" in name]
    attentions = [name for name in names if f".{depth - 1}.self_attn." in name]
    assert len(mlps) == 4 * depth
    assert len(attentions) == 8
    assert len(names) == len(mlps) + len(attentions)
    mlp_values = depth * (4 * HIDDEN_SIZE**2 + 3 * HIDDEN_SIZE)
    attention_values = 4 * (HIDDEN_SIZE**2 + HIDDEN_SIZE)
    assert sum(p.numel() for p in names.values()) == mlp_values + attention_values
    own = dict(text_encoder.named_parameters())
    assert all(own[name] is parameter for name, parameter in names.items())


def test_a_prefixed_model_is_understood() -> None:
    config = tiny_text_encoder().config
    names = paper_parameters(CLIPTextModelWithProjection(config))
    assert len(names) == 16
    assert all(name.startswith("text_model.") for name in names)


def test_clip_vit_l_counts_as_published() -> None:
    with torch.device("meta"):
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                hidden_size=768,
                intermediate_size=3072,
                num_hidden_layers=12,
                num_attention_heads=12,
            )
        )
    trained = sum(p.numel() for p in paper_parameters(text_encoder).values())
    total = sum(p.numel() for p in text_encoder.parameters())
    assert (round(trained / 1e6, 1), round(total / 1e6, 1)) == (59.0, 123.1)


def test_another_kind_of_model_is_refused() -> None:
    model = torch.nn.Linear(2, 2)
    model.config = tiny_text_encoder().config
    with pytest.raises(BaseFolderError, match="Linear has no stack of 2"):
        paper_parameters(model)
