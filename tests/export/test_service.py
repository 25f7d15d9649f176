"""How a graph is served by each engine: its configuration, and TensorRT's plan (with fakes)."""

from __future__ import annotations

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from unsee.export.engines.engine import Engine
from unsee.export.graphs.decoder_graphs import VAEDecoderGraph
from unsee.export.measured_graphs import ExportedGraph
from unsee.export.service import write_service
from unsee.export.tensorrt.build import Device

GRAPH = VAEDecoderGraph(4, 8)


@pytest.fixture
def serve(tiny_base, tmp_path):
    version_dir = tmp_path / "vae_decoder" / "1"
    version_dir.mkdir(parents=True)
    (version_dir / "model.onnx").write_bytes(b"a graph")

    def serve(engine, lines=None):
        exported = ExportedGraph(GRAPH, version_dir, "sha256:1")
        progress = (lines if lines is not None else []).append
        write_service(exported, "the model", engine, tiny_base, progress)
        text = (tmp_path / "vae_decoder" / "config.pbtxt").read_text()
        return text_format.Parse(text, pb.ModelConfig())

    return serve


def test_each_engine_replaces_the_configuration_of_the_one_before(serve):
    simple = serve(Engine("onnxruntime"))
    assert serve(Engine("openvino", "bfloat16")).parameters["HINT_BF16"].string_value == "YES"
    assert serve(Engine("onnxruntime")) == simple


def test_shapes_are_compiled_for_the_bases_default_clip(serve):
    config = serve(Engine("openvino"))
    assert config.parameters["WARM_UP_SHAPES"].string_value == '{"latents": [1, 4, 4, 8, 8]}'
    assert int(config.parameters["STATIC_SHAPES"].string_value) > 0


def test_tensorrt_gets_a_plan_of_just_this_graph_and_is_told_so(serve, monkeypatch, tmp_path):
    built = []
    device = Device(gpu="a GPU", compute_capability="9.0", driver="570.1", tensorrt="10.15.1")
    monkeypatch.setattr("unsee.export.tensorrt.build.current_device", lambda: device)
    monkeypatch.setattr(
        "unsee.export.tensorrt.kept_engine.keep_engine", lambda *given: built.append(given)
    )
    lines: list[str] = []
    config = serve(Engine("tensorrt", "float16"), lines)
    assert (config.platform, config.backend) == ("tensorrt_plan", "")
    assert config.default_model_filename == "model.plan"
    assert not config.parameters
    ((graph, file, key, folder, check),) = built
    assert (graph, key.graph, key.graph_digest) == (GRAPH, "vae_decoder", "sha256:1")
    assert (key.precision, key.device) == ("float16", device)
    assert (file.parent, folder) == (tmp_path / "vae_decoder" / "1",) * 2
    assert key.profile.optimum == {"B": 1, "F": 4, "h": 8, "w": 8}
    assert callable(check)
    assert lines == ["building tensorrt-float16 of vae_decoder"]
