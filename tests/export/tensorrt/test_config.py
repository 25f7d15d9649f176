"""The Triton configuration of an engine, read back through protobuf's own parser."""

from __future__ import annotations

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from unsee.export.engines.model_config import graph_config, pbtxt, video_unet_config
from unsee.export.graphs.graphs import VAEDecoderGraph, VideoUNetGraph
from unsee.export.tensorrt.config import tensorrt_config

CONFIGS = [
    video_unet_config(VideoUNetGraph(4, 48, 32, 2, 1000, vae_scale=8)),
    graph_config(VAEDecoderGraph(4, 8), "vae_decoder"),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_an_engine_differs_from_its_graph_in_what_loads_it_alone(config):
    config = pb.ModelConfig.FromString(config.SerializeToString())
    config.parameters["HINT_BF16"].string_value = "YES"
    engine = text_format.Parse(pbtxt(tensorrt_config(config)), pb.ModelConfig())
    assert (engine.platform, engine.backend) == ("tensorrt_plan", "")
    assert engine.default_model_filename == "model.plan"
    (group,) = engine.instance_group
    assert (group.count, group.kind, list(group.profile)) == (1, group.KIND_GPU, ["0"])
    for field in ("platform", "default_model_filename", "instance_group", "backend", "parameters"):
        engine.ClearField(field)
        config.ClearField(field)
    assert engine == config


def test_borders_stay_fp32_and_frames_uint8_and_another_profile_can_be_named():
    engines = [tensorrt_config(config, profile_index=1) for config in CONFIGS]
    types = {t.data_type for engine in engines for t in (*engine.input, *engine.output)}
    assert types == {pb.TYPE_FP32, pb.TYPE_UINT8}
    assert [list(engine.instance_group[0].profile) for engine in engines] == [["1"], ["1"]]
    assert CONFIGS[0].platform != "tensorrt_plan"
