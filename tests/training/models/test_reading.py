"""The padding is masked where the encoder's config asks for it, and nothing else is."""

import copy
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fakes import change_json
from unsee.models.base import Base, load_base
from unsee.models.encoders.frame import PromptFrame
from unsee.models.encoders.reading import prompt_mask
from unsee.prompts.encoding import encode_ids, encode_vectors, prompt_ids, slotted_prompts

BOS, EOS, BANG = 90, 91, 0


@given(words=st.lists(st.integers(0, 89), max_size=8), pad=st.sampled_from([EOS, BANG]))
def test_the_mask_ends_with_the_prompt(words: list[int], pad: int) -> None:
    row = [BOS, *words, EOS]
    padded = [*row, *[pad] * (12 - len(row))]
    frame = PromptFrame((BOS,), EOS, pad, len(padded))
    mask = prompt_mask(torch.tensor([padded]), frame)
    assert mask.tolist() == [[1] * len(row) + [0] * (12 - len(row))]


@pytest.fixture
def masked(own_base_dir: Path) -> Base:
    change_json(own_base_dir / "t2i" / "text_encoder" / "config.json", use_attention_mask=True)
    return load_base(own_base_dir)


def test_padding_says_nothing_to_a_masked_encoder(base: Base, masked: Base) -> None:
    ids = prompt_ids(masked, ["a cat"])
    encoder = masked.text_encoder()
    with torch.no_grad():
        plain = encode_ids(base.text_encoder(), ids)
        found = encode_ids(encoder, ids)
        given = encoder(ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        copied = encode_ids(copy.deepcopy(encoder), ids)
    end = ids[0].tolist().index(masked.prompt_frame().eos)
    torch.testing.assert_close(found[:, : end + 1], plain[:, : end + 1])
    assert (found - plain)[:, end + 2 :].abs().max() > 1e-3
    torch.testing.assert_close(given, plain)
    torch.testing.assert_close(copied, found)


def test_free_positions_are_read_by_a_masked_encoder(masked: Base) -> None:
    prompts = slotted_prompts(masked, [("a picture of", "")], 2)
    vectors = torch.randn(2, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    states = encode_vectors(masked.text_encoder(), prompts, vectors)
    states[0, -1].sum().backward()
    assert vectors.grad is not None
    assert (vectors.grad.abs().sum(1) > 0).all()
