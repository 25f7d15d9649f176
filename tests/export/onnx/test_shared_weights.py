"""Revisions have the base's weights in common with it, and each is whole all the same."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.external_data_helper import ExternalDataInfo

from unsee.deltas.appended_layer import with_appended_layer
from unsee.deltas.edit import Edit
from unsee.export.build import write_revision
from unsee.export.graphs.graphs import TextEncoderGraph
from unsee.export.onnx.exporter import export_onnx, weights_file
from unsee.export.onnx.shared_weights import SMALL_BYTES, SharedWith, save_beside
from unsee.export.version import read_export

MODEL_FILES = ["model.onnx", "model.onnx.data"]


def edited(base):
    encoder = base.text_encoder()
    size = encoder.config.hidden_size
    unit = torch.eye(size)
    edit = Edit(-0.5 * unit[:, :1], unit[1:2], torch.zeros(1))
    return with_appended_layer(encoder, edit).eval()


def exported_model(encoder, base, file):
    """`file`, with the encoder's graph and all of its weights in it."""
    export_onnx(TextEncoderGraph.of(encoder, base.tokenizer().model_max_length), encoder, file)
    return file


def answer(file, base):
    ids = np.arange(2 * base.tokenizer().model_max_length).reshape(2, -1) % 50
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(None, {"input_ids": ids})[0]


def tensors(file):
    """Sizes of the graph's large tensors by whether they lie beside it."""
    found = {True: 0, False: 0}
    for tensor in onnx.load(file, load_external_data=False).graph.initializer:
        external = tensor.data_location == onnx.TensorProto.EXTERNAL
        found[external] += ExternalDataInfo(tensor).length if external else len(tensor.raw_data)
    return found


@pytest.fixture(scope="module")
def whole_base(tiny_base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole_base")
    return exported_model(tiny_base.text_encoder(), tiny_base, folder / "model.onnx")


@pytest.fixture(scope="module")
def whole(tiny_base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole_policy")
    return exported_model(edited(tiny_base), tiny_base, folder / "model.onnx")


@pytest.fixture
def base_file(whole_base, tmp_path):
    file = tmp_path / "base" / "model.onnx"
    file.parent.mkdir()
    save_beside(onnx_ir.load(whole_base), file)
    return file


def saved(whole, base_file, name="policy"):
    file = base_file.parents[1] / name / "model.onnx"
    file.parent.mkdir()
    SharedWith(base_file).save(onnx_ir.load(whole), file)
    return file


def test_a_policy_writes_what_the_base_has_not_and_computes_what_it_did(
    tiny_base, base_file, whole
):
    file = saved(whole, base_file)
    assert weights_file(file).samefile(weights_file(base_file))
    parts = tensors(file)
    assert parts[True] > 0
    assert parts[False] > 0
    assert sum(parts.values()) == tensors(whole)[False]
    np.testing.assert_array_equal(answer(file, tiny_base), answer(whole, tiny_base))


def test_the_base_keeps_nothing_large_in_the_graph_and_nobody_may_write_its_weights(base_file):
    graph = onnx.load(base_file, load_external_data=False).graph
    assert all(len(tensor.raw_data) <= SMALL_BYTES for tensor in graph.initializer)
    mode = stat.S_IMODE(weights_file(base_file).stat().st_mode)
    assert not mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)


@pytest.mark.parametrize("missing", [["model.onnx"], ["model.onnx.data"], MODEL_FILES])
def test_without_a_base_to_share_with_a_policy_is_one_file(base_file, whole, missing):
    for name in missing:
        base_file.with_name(name).unlink()
    file = saved(whole, base_file)
    assert [path.name for path in file.parent.iterdir()] == ["model.onnx"]
    assert tensors(file) == tensors(whole)


def test_a_base_in_one_file_has_nothing_to_share(whole_base, base_file, whole):
    weights_file(base_file).unlink()
    shutil.copy(whole_base, base_file)
    assert tensors(saved(whole, base_file)) == tensors(whole)


@given(places=st.lists(st.floats(0, 1, exclude_max=True), max_size=4))
@settings(max_examples=10, deadline=None)
def test_damaged_weights_are_not_shared(tiny_base, whole_base, whole, places):
    with tempfile.TemporaryDirectory() as folder:
        base_file = Path(folder, "base", "model.onnx")
        base_file.parent.mkdir()
        save_beside(onnx_ir.load(whole_base), base_file)
        good = saved(whole, base_file, "good")
        data = bytearray(weights_file(base_file).read_bytes())
        for place in {int(place * len(data)) for place in places}:
            data[place] ^= 1
        weights_file(base_file).unlink()
        weights_file(base_file).write_bytes(data)
        file = saved(whole, base_file)
        assert tensors(file)[False] >= tensors(good)[False]
        np.testing.assert_array_equal(answer(file, tiny_base), answer(whole, tiny_base))


def test_a_file_system_without_links_gets_a_copy(tiny_base, base_file, whole, monkeypatch):
    def refuse(*arguments):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    file = saved(whole, base_file)
    assert weights_file(file).read_bytes() == weights_file(base_file).read_bytes()
    assert weights_file(file).stat().st_nlink == 1
    np.testing.assert_array_equal(answer(file, tiny_base), answer(whole, tiny_base))


def test_a_revision_shares_with_the_repositorys_base_and_its_digest_covers_that(exported, tmp_path):
    repository_dir = shutil.copytree(exported.repository_dir, tmp_path / "repository")
    base = exported.base
    number = write_revision(edited(base), "family", [], base, repository_dir, [])
    folder = repository_dir / "text_encoder_family" / str(number)
    weights = weights_file(folder / "model.onnx")
    assert weights.samefile(repository_dir / "text_encoder_base" / "1" / weights.name)
    assert read_export(folder) is not None
    weights.unlink()
    assert read_export(folder) is None


@pytest.mark.parametrize("name", MODEL_FILES)
@pytest.mark.parametrize("content", [b"", b"rubbish"])
def test_a_revision_beside_a_broken_base_is_one_file(exported, tmp_path, name, content):
    repository_dir = shutil.copytree(exported.repository_dir, tmp_path / "repository")
    broken = repository_dir / "text_encoder_base" / "1" / name
    broken.unlink()
    broken.write_bytes(content)
    base = exported.base
    number = write_revision(edited(base), "family", [], base, repository_dir, [])
    folder = repository_dir / "text_encoder_family" / str(number)
    assert read_export(folder) is not None
    assert not weights_file(folder / "model.onnx").exists()
