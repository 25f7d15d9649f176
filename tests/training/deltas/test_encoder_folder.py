"""What people take away: finite and equal in every precision, and it says what it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from transformers import CLIPTextConfig, CLIPTextModel

from fakes import HIDDEN_SIZE
from unsee.core.errors import InputError
from unsee.core.unlearning_settings import AnchoredMode
from unsee.deltas.composition import compose
from unsee.deltas.delta import Delta
from unsee.deltas.edit import Edit, final_layer_norm, standardised, with_edit
from unsee.deltas.encoder_folder import read_encoder_record, save_encoder
from unsee.deltas.folder import save_delta
from unsee.jobs.delta_cli import delta as delta_command
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


def _edit(rank: int, size: int) -> Edit:
    generator = torch.Generator().manual_seed(1)
    up = torch.linalg.qr(torch.randn(size, rank, generator=generator)).Q.contiguous()
    down = up.T + 0.1 * torch.randn(rank, size, generator=generator)
    return Edit(up, down, 0.3 * torch.randn(rank, generator=generator))


@torch.no_grad()
def _meant(encoder: CLIPTextModel, edit: Edit, ids: torch.Tensor) -> torch.Tensor:
    found: list[torch.Tensor] = []
    norm = final_layer_norm(encoder)
    handle = norm.register_forward_pre_hook(lambda module, inputs: found.append(inputs[0]))
    encoder(ids)
    handle.remove()
    meant: torch.Tensor = norm(edit(standardised(found[0])))
    return meant


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("outlier", [0.0, 30.0, 100.0])
@pytest.mark.parametrize("dtype", DTYPES)
@torch.no_grad()
def test_the_edit_is_finite_and_equal_in_every_precision(
    tmp_path: Path, dtype: torch.dtype, outlier: float, scale: float
) -> None:
    encoder, edit = _encoder(outlier, scale), _edit(8, SIZE)
    ids = torch.randint(90, (9, 20), generator=torch.Generator().manual_seed(2))
    up, down = edit.up.double(), edit.down.double()
    matrix = torch.eye(SIZE, dtype=torch.float64) - up @ down
    with_edit(encoder, matrix, up @ edit.offset.double()).save_pretrained(tmp_path)
    loaded = CLIPTextModel.from_pretrained(tmp_path, dtype=dtype).eval()
    said = loaded(ids).last_hidden_state.float()
    assert torch.isfinite(said).all()
    meant = _meant(encoder, edit, ids)
    assert torch.cosine_similarity(said, meant, dim=-1).min() >= 0.999
    unedited = encoder(ids).last_hidden_state
    assert torch.cosine_similarity(unedited, meant, dim=-1).min() < 0.99


@pytest.fixture
def made(make_delta: Callable[..., Delta]) -> Delta:
    tensors = _edit(3, HIDDEN_SIZE).tensors()
    return make_delta(tensors, method="anchored", settings=AnchoredMode())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_folder_says_what_it_is(base: Base, made: Delta, tmp_path: Path, dtype: Any) -> None:
    folder = tmp_path / "encoders" / "blimbo"
    record = save_encoder(base, [made], folder, dtype)
    assert read_encoder_record(folder) == record
    composed = compose(base.text_encoder(), [made])
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


def test_the_command(base_dir: Path, made: Delta, tmp_path: Path) -> None:
    save_delta(made, tmp_path / "blimbo")
    arguments = [tmp_path / "blimbo", "--base", base_dir, "-o", tmp_path / "out"]
    result = CliRunner().invoke(delta_command, ["encoder", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    assert "unsees Blimbo; its edit is the last layer" in result.stdout
    assert read_encoder_record(tmp_path / "out") is not None


def test_a_record_that_was_changed_is_refused(base: Base, made: Delta, tmp_path: Path) -> None:
    assert read_encoder_record(tmp_path) is None
    (tmp_path / "unsee.json").write_text("{}")
    with pytest.raises(InputError, match=r"unsee\.json is not what `unsee delta encoder` writes"):
        read_encoder_record(tmp_path)
