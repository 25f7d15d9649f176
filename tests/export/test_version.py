"""One version folder: its record, what counts as up to date, and room on the disk."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple

import numpy as np
import pytest

from unsee.core import files
from unsee.core.errors import NotExportable, RepositoryError
from unsee.deltas.edit import final_layer_norm, trunk
from unsee.export.graphs.base_graphs import sampling_graphs, text_encoder_graph
from unsee.export.memory import peak_memory
from unsee.export.version import (
    EXPORT_FILE,
    export_version,
    find_export,
    needed_bytes,
    read_export,
    source_digest,
)


@pytest.fixture
def text_encoder(tiny_base):
    return text_encoder_graph(tiny_base), trunk(tiny_base.text_encoder())


@pytest.fixture
def version_dir(exported, tmp_path):
    """A copy of the exported text encoder that a test may change."""
    return shutil.copytree(exported.repository_dir / "text_encoder" / "1", tmp_path / "1")


def test_an_export_is_found_again_until_something_differs(text_encoder, version_dir):
    graph, model = text_encoder
    record = find_export(graph, model, version_dir)
    assert record is not None
    assert record.precision == "float32"
    other = type(model)(model.config)
    assert find_export(graph, other, version_dir) is None
    with (version_dir / "model.onnx").open("ab") as file:
        file.write(b"\0")
    assert find_export(graph, model, version_dir) is None


def test_a_record_of_an_older_schema_counts_as_none(version_dir):
    file = version_dir / EXPORT_FILE
    record = json.loads(file.read_text())
    added = ("precision", "peak_bytes", "num_parameters", "num_nodes")
    old = {name: value for name, value in record.items() if name not in added}
    file.write_text(json.dumps(old | {"schema_version": 1}))
    assert read_export(version_dir) is None


def test_precisions_have_different_sources_and_the_text_encoder_has_one(tiny_base, tmp_path):
    text_encoder, unet, _ = sampling_graphs(tiny_base)
    model = tiny_base.t2v_denoiser()
    assert source_digest(unet, model, "float32") != source_digest(unet, model, "float16")
    with pytest.raises(NotExportable, match="text_encoder is exported in float32, not in float16"):
        export_version(text_encoder, tiny_base.text_encoder(), tmp_path, "float16")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_said_before_anything_is_written(
    text_encoder, tmp_path, monkeypatch
):
    graph, model = text_encoder
    usage = namedtuple("usage", ("total", "used", "free"))
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: usage(10**9, 10**9, 10**6))
    version_dir = tmp_path / "1"
    version_dir.mkdir()
    with pytest.raises(
        RepositoryError, match=r"text_encoder needs [\d.]+ MB in .*, where 1\.00 MB"
    ):
        export_version(graph, model, version_dir)
    assert list(version_dir.iterdir()) == []


@pytest.mark.parametrize("model", ["text_encoder", "policy_base", "video_denoiser", "vae_decoder"])
def test_what_is_asked_of_the_disk_is_enough(exported, tiny_base, model):
    sources = {
        "text_encoder": trunk(tiny_base.text_encoder()),
        "policy_base": final_layer_norm(tiny_base.text_encoder()),
        "video_denoiser": tiny_base.t2v_denoiser(),
        "vae_decoder": tiny_base.t2v_vae(),
    }
    folder = exported.repository_dir / model / "1"
    written = sum(file.stat().st_size for file in folder.iterdir())
    assert needed_bytes(sources[model], "float32") >= written
    assert needed_bytes(sources[model], "float16") < needed_bytes(sources[model], "float32")


def test_peak_memory_is_that_of_the_block_alone():
    with peak_memory() as large:
        np.ones(2**25).sum()  # 256 MiB
    with peak_memory() as small:
        np.ones(2**10).sum()
    assert large.peak_bytes - small.peak_bytes > 2**27
