"""Exported graphs as functions: both engines of the CPU give the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

from serving_fakes import write_fake_repository
from unsee.core.errors import NotExportable
from unsee.export.engines.engine import Engine
from unsee.export.engines.session import open_graph

SHAPES = {"latents": [1, 4, 3, 2, 2]}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = write_fake_repository(tmp_path_factory.mktemp("session") / "repository")
    return folder / "vae_decoder" / "1" / "model.onnx"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_openvino_computes_what_onnx_runtime_computes(file, precision):
    latents = np.linspace(-1, 1, 48, dtype=np.float32).reshape(SHAPES["latents"])
    wanted = open_graph(file, Engine("onnxruntime"), 1, SHAPES)(latents=latents)
    run = open_graph(file, Engine("openvino", precision), 1, SHAPES)
    frames = run(latents=latents)
    assert frames.shape == (1, 3, 16, 16, 3)
    limit = 1 if precision == "float32" else 4
    assert np.abs(frames.astype(int) - wanted.astype(int)).max() <= limit
    again = run(latents=-latents)
    assert not np.array_equal(frames, again), "an output is not overwritten by the next call"


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_file_that_is_no_graph_is_refused_in_one_sentence(tmp_path, name):
    file = tmp_path / "video_unet" / "1" / "model.onnx"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"no graph")
    with pytest.raises(NotExportable, match=f"^{name}-float32 cannot open video_unet: ") as caught:
        open_graph(file, Engine(name), 1, SHAPES)
    assert "\n" not in str(caught.value)


def test_an_engine_of_a_gpu_is_refused(file):
    with pytest.raises(NotExportable, match="tensorrt-float16 cannot be run on the CPU"):
        open_graph(file, Engine("tensorrt", "float16"), 1, SHAPES)
