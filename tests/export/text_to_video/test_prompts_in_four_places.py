"""A prompt's embeddings are the same in diffusers, unlearning, evaluation and the served graph."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from diffusers import StableDiffusionPipeline, TextToVideoSDPipeline
from prompt_fakes import served_tokenizer
from transformers import CLIPTextModel, CLIPTokenizer

from fakes import add_words, change_json, write_tiny_base
from unsee.deltas.edit import Edit, edited, final_layer_norm, trunk
from unsee.evaluation.seeing.encode import PromptEncoder
from unsee.export.graphs.base_graphs import edit_graph, text_encoder_graph
from unsee.export.onnx.edit_nodes import write_edit
from unsee.export.onnx.exporter import export_onnx
from unsee.models.base import Base, load_base
from unsee.prompts.encoding import encode_prompts

PROMPTS = ("", "a cat", "  A\tCat!  wow !!", "Cafe\u0301\u00a0noir", "x" * 30)
CLOSE = {"rtol": 0, "atol": 2e-5}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("plain"))


def _masked(folder: Path) -> None:
    change_json(folder / "t2i/text_encoder/config.json", use_attention_mask=True)


def _bang(folder: Path, *models: str) -> None:
    for model in models:
        place = folder / model / "tokenizer"
        if place.is_symlink():
            place.unlink()
            shutil.copytree(folder / "t2i/tokenizer", place)
        tokenizer = CLIPTokenizer.from_pretrained(place, pad_token="!")
        tokenizer.save_pretrained(place)


def _masked_bang(folder: Path) -> None:
    _bang(folder, "t2i")
    _masked(folder)


def _shorter(folder: Path) -> None:
    change_json(folder / "t2i/tokenizer/tokenizer_config.json", model_max_length=36)


def _other_ids(folder: Path) -> None:
    config = folder / "t2i/text_encoder/config.json"
    change_json(config, bos_token_id=0, eos_token_id=2, pad_token_id=1)


def _more_words(folder: Path) -> None:
    add_words(folder, "wow")


CHANGES = {
    "plain": lambda folder: None,
    "masked": _masked,
    "padded with !": lambda folder: _bang(folder, "t2i"),
    "masked and padded with !": _masked_bang,
    "the video model pads with !": lambda folder: _bang(folder, "t2v"),
    "shorter": _shorter,
    "other ids in config.json": _other_ids,
    "a word more": _more_words,
}


def _exported(base: Base, folder: Path) -> Path:
    """The text encoder's graph."""
    file = folder / "text_encoder.onnx"
    export_onnx(text_encoder_graph(base), trunk(base.text_encoder()), file)
    return file


@pytest.fixture(scope="module")
def masked_graph(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(plain, tmp_path_factory.mktemp("masked") / "base", symlinks=True)
    _masked(folder)
    return _exported(load_base(folder), folder)


@pytest.fixture(params=CHANGES)
def folder(request: pytest.FixtureRequest, plain: Path, tmp_path: Path) -> Path:
    folder = shutil.copytree(plain, tmp_path / "base", symlinks=True)
    CHANGES[request.param](folder)
    return folder


def _by_diffusers(pipeline: Any) -> torch.Tensor:
    with torch.no_grad():
        rows = [
            pipeline.encode_prompt(prompt, "cpu", 1, do_classifier_free_guidance=False)[0]
            for prompt in PROMPTS
        ]
    return torch.cat(rows)


def _by_the_server(base: Base, encoder: Any, folder: Path, exported: Path | None) -> torch.Tensor:
    """With the exported text encoder and edit, or with the modules that are exported."""
    first, second = text_encoder_graph(base), edit_graph(base)
    tokenizer = served_tokenizer(base, folder)
    tokens = [tokenizer.encode(prompt=prompt) for prompt in PROMPTS]
    ids = np.concatenate([one.input_ids for one in tokens])
    mask = np.concatenate([one.attention_mask for one in tokens])
    norm = final_layer_norm(encoder)
    if exported is None:
        seen = torch.from_numpy(mask)
        with torch.no_grad():
            states = first.wrap(trunk(encoder))(torch.from_numpy(ids), seen)
            return second.wrap(norm)(states, seen)
    write_edit(second, norm, folder / "edit.onnx")
    states = _run(exported, input_ids=ids, attention_mask=mask)
    return torch.from_numpy(_run(folder / "edit.onnx", states=states, attention_mask=mask))


def _run(file: Path, **feeds: Any) -> Any:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def test_the_embeddings_are_those_of_diffusers(
    request: pytest.FixtureRequest, folder: Path, tmp_path: Path
) -> None:
    base = load_base(folder)
    encoder = base.text_encoder()
    expected = _by_diffusers(TextToVideoSDPipeline.from_pretrained(folder / "t2v"))
    torch.testing.assert_close(encode_prompts(base, encoder, PROMPTS), expected, **CLOSE)
    evaluated = PromptEncoder(encoder, base).embeds(PROMPTS)
    torch.testing.assert_close(evaluated, expected, **CLOSE)
    # these two the graph itself depends on; the other changes are of what it is given
    graphs = {
        "masked": lambda: request.getfixturevalue("masked_graph"),
        "shorter": lambda: _exported(base, tmp_path),
    }
    exported = graphs.get(request.node.callspec.params["folder"], lambda: None)()
    served = _by_the_server(base, encoder, tmp_path, exported)
    torch.testing.assert_close(served, expected, **CLOSE)
    images = _by_diffusers(StableDiffusionPipeline.from_pretrained(folder / "t2i"))
    evaluated = PromptEncoder(encoder, base, "image").embeds(PROMPTS)
    torch.testing.assert_close(evaluated, images, **CLOSE)


def test_an_edited_encoder_masks_alike(plain: Path, masked_graph: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(plain, tmp_path / "base", symlinks=True)
    _masked(folder)
    base = load_base(folder)
    size = base.text_encoder().config.hidden_size
    unit = torch.eye(size)
    edit = Edit(-0.5 * unit[:, :1], unit[1:2], torch.zeros(1))
    encoder = edited(base.text_encoder(), edit)
    as_it_lies = CLIPTextModel.from_pretrained(folder / "t2i/text_encoder")  # masks nothing itself
    pipeline = TextToVideoSDPipeline.from_pretrained(
        folder / "t2v", text_encoder=edited(as_it_lies, edit)
    )
    expected = _by_diffusers(pipeline)
    torch.testing.assert_close(PromptEncoder(encoder, base).embeds(PROMPTS), expected, **CLOSE)
    served = _by_the_server(base, encoder, tmp_path, masked_graph)
    torch.testing.assert_close(served, expected, **CLOSE)
