"""What people take away: finite and equal in every precision, and it says what it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner
from delta_fakes import random_edit
from encoder_fakes import new_t5
from safetensors import safe_open
from transformers import CLIPTextConfig, CLIPTextModel

from unsee.core.errors import InputError
from unsee.core.unlearning_settings import AnchoredMode
from unsee.deltas.appended_layer import with_appended_layer
from unsee.deltas.delta import Delta
from unsee.deltas.edit import Edit, edited, final_layer_norm
from unsee.deltas.encoder_folder import read_encoder_record, save_encoder
from unsee.deltas.folder import save_delta
from unsee.jobs.apply_cli import apply
from unsee.models.base import Base
from unsee.models.digest import tensors_digest

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SIZE = 64


def _encoder(outlier: float, scale: float) -> CLIPTextModel:
    """A random encoder, two of whose channels are `outlier` times as large as the others."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        config = CLIPTextConfig(
            vocab_size=90,
            hidden_size=SIZE,
            intermediate_size=4 * SIZE,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=20,
        )
        encoder = CLIPTextModel(config).eval()
        norm = final_layer_norm(encoder)
        norm.weight.normal_(1.0, 0.3)
        norm.bias.normal_(0.0, 0.3)
        encoder.get_input_embeddings().weight.mul_(50 * scale)
        encoder.get_input_embeddings().weight[:, [3, 41]] += outlier * scale
        for name, parameter in encoder.named_parameters():
            if name.endswith(("fc2.weight", "out_proj.weight")):
                parameter.mul_(scale)
    return encoder


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("outlier", [0.0, 30.0, 100.0])
@pytest.mark.parametrize("dtype", DTYPES)
@torch.no_grad()
def test_the_edit_is_finite_and_equal_in_every_precision(
    tmp_path: Path, dtype: torch.dtype, outlier: float, scale: float
) -> None:
    encoder, edit = _encoder(outlier, scale), random_edit(1, 8, SIZE)
    ids = torch.randint(90, (9, 20), generator=torch.Generator().manual_seed(2))
    with_appended_layer(encoder, edit).save_pretrained(tmp_path)
    loaded = CLIPTextModel.from_pretrained(tmp_path, dtype=dtype).eval()
    said = loaded(ids).last_hidden_state.float()
    assert torch.isfinite(said).all()
    meant = edited(encoder, edit)(ids).last_hidden_state
    assert torch.cosine_similarity(said, meant, dim=-1).min() >= 0.999
    unedited = encoder(ids).last_hidden_state
    assert torch.cosine_similarity(unedited, meant, dim=-1).min() < 0.99


@pytest.fixture
def made(make_delta: Callable[..., Delta]) -> Delta:
    tensors = random_edit().tensors()
    return make_delta(tensors, method="anchored", settings=AnchoredMode())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_folder_says_what_it_is(base: Base, made: Delta, tmp_path: Path, dtype: Any) -> None:
    folder = tmp_path / "encoders" / "blimbo"
    record = save_encoder(base, [made], folder, dtype)
    assert read_encoder_record(folder) == record
    composed = with_appended_layer(base.text_encoder(), Edit.of(made.tensors))
    assert record.encoder_digest == tensors_digest(composed.state_dict())
    assert record.concepts == (made.card.concept,)
    card = (folder / "README.md").read_text()
    assert "Blimbo (character)" in card
    assert "clip skip" in card
    with safe_open(folder / "model.safetensors", framework="pt") as tensors:
        assert {str(tensors.get_tensor(name).dtype) for name in tensors.keys()} == {  # noqa: SIM118
            f"torch.{dtype}"
        }
    with pytest.raises(InputError, match="already exists"):
        save_encoder(base, [made], folder)


@pytest.mark.parametrize("source", ["blimbo", "family.yaml"])
def test_the_command(
    base_dir: Path, made: Delta, tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_delta(made, tmp_path / "blimbo")
    concept = {"concept": "Blimbo", "category": "character", "delta": "blimbo"}
    policy = {"name": "family", "unsee": [concept]}
    (tmp_path / "family.yaml").write_text(yaml.safe_dump(policy))
    monkeypatch.setenv("HOME", str(tmp_path))
    arguments = [f"~/{source}", "--base", base_dir, "-o", tmp_path / "out"]
    result = CliRunner().invoke(apply, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    assert "unsees Blimbo; its edit is the last layer" in result.stdout
    assert read_encoder_record(tmp_path / "out") is not None


def test_an_encoder_that_cannot_carry_an_edit_is_refused(
    base: Base, made: Delta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = new_t5()
    monkeypatch.setattr(type(base), "text_encoder", lambda self: encoder)
    words = "is a T5EncoderModel, no layer of which can carry an edit; attach the deltas"
    with pytest.raises(InputError, match=words):
        save_encoder(base, [made], tmp_path / "out")


def test_a_record_that_was_changed_is_refused(base: Base, made: Delta, tmp_path: Path) -> None:
    assert read_encoder_record(tmp_path) is None
    (tmp_path / "unsee.json").write_text("{}")
    with pytest.raises(InputError, match=r"unsee\.json is not what `unsee apply` writes"):
        read_encoder_record(tmp_path)
