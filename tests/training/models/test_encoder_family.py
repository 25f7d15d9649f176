"""Bases whose text encoder cannot be edited are refused before anything is loaded."""

import json
import shutil
from pathlib import Path

import pytest

from unsee.core.errors import BaseFolderError
from unsee.models.base import Base, load_base
from unsee.models.encoder_family import check_encoder

pytestmark = pytest.mark.torch


@pytest.fixture
def hollow(base_dir: Path, tmp_path: Path) -> Path:
    """The base without a single weight: what it is made of is all that is left."""
    folder = tmp_path / "hollow"
    for model in ("t2i", "t2v"):
        (folder / model).mkdir(parents=True)
        shutil.copy(base_dir / model / "model_index.json", folder / model)
    shutil.copy(base_dir / "base.yaml", folder)
    return folder


def _with(folder: Path, model: str, **components: object) -> Base:
    index = folder / model / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | components))
    return load_base(folder)


def test_a_clip_text_model_passes_without_weights(hollow: Path) -> None:
    check_encoder(load_base(hollow))


@pytest.mark.parametrize("empty", [[None, None], None])
def test_a_second_encoder_that_is_left_out_does_not_count(hollow: Path, empty: object) -> None:
    check_encoder(_with(hollow, "t2i", text_encoder_2=empty))


@pytest.mark.parametrize("class_name", ["T5EncoderModel", "UMT5EncoderModel"])
@pytest.mark.parametrize("model", ["t2i", "t2v"])
def test_t5_is_refused_with_what_is_missing(hollow: Path, class_name: str, model: str) -> None:
    base = _with(hollow, model, text_encoder=["transformers", class_name])
    with pytest.raises(BaseFolderError) as caught:
        check_encoder(base)
    sentence = str(caught.value)
    assert sentence.startswith(f"base 'tiny': {hollow / model} reads prompts with a {class_name}")
    for words in ("RMS norms without a bias", "relative positions", "no final layer norm"):
        assert words in sentence


@pytest.mark.parametrize(
    ("class_name", "words"),
    [
        ("CLIPTextModelWithProjection", "pooled projection"),
        ("LlamaModel", "choose a base with a CLIPTextModel"),
    ],
)
def test_others_are_refused(hollow: Path, class_name: str, words: str) -> None:
    base = _with(hollow, "t2i", text_encoder=["transformers", class_name])
    with pytest.raises(BaseFolderError, match=words) as caught:
        check_encoder(base)
    assert class_name in str(caught.value)


def test_a_second_encoder_is_refused(hollow: Path) -> None:
    second = ["transformers", "CLIPTextModelWithProjection"]
    with pytest.raises(BaseFolderError, match=r"second text encoder \(text_encoder_2"):
        check_encoder(_with(hollow, "t2i", text_encoder_2=second))


def test_no_encoder_at_all_is_refused(hollow: Path) -> None:
    with pytest.raises(BaseFolderError, match="has no text_encoder"):
        check_encoder(_with(hollow, "t2i", text_encoder=[None, None]))
