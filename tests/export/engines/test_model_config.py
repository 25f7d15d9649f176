"""Triton configurations, read back through protobuf's own parser."""

from __future__ import annotations

import json

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from unsee.export.engines.engine import Engine
from unsee.export.engines.model_config import (
    Service,
    batched_config,
    graph_config,
    pbtxt,
    policy_config,
    prompt_encoder_config,
    text_to_video_config,
)
from unsee.export.graphs.decoder_graphs import VAEDecoderGraph
from unsee.export.graphs.denoiser_graph import VideoDenoiserGraph
from unsee.export.graphs.prompt_graphs import EditGraph, TextEncoderGraph, TunedEncoderGraph


def parsed(config):
    return text_format.Parse(pbtxt(config), pb.ModelConfig())


def border(tensors):
    return {
        t.name: (pb.DataType.Name(t.data_type), list(t.dims), t.HasField("reshape"))
        for t in tensors
    }


TOKENS = {name: ("TYPE_INT64", [48], False) for name in ("input_ids", "attention_mask")}
STATES = ("TYPE_FP32", [48, 32], False)


def test_the_text_encoder_batches_and_gives_states():
    config = parsed(batched_config(TextEncoderGraph(48, 32, 99)))
    assert (config.name, config.backend) == ("text_encoder", "onnxruntime")
    assert config.default_model_filename == "model.onnx"
    assert config.max_batch_size == 16
    assert config.HasField("dynamic_batching")
    assert border(config.input) == TOKENS
    assert border(config.output) == {"states": STATES}


def test_prompts_of_any_length_have_an_axis_for_it():
    config = parsed(batched_config(TextEncoderGraph(48, 32, 99, any_length=True)))
    assert border(config.input) == dict.fromkeys(TOKENS, ("TYPE_INT64", [-1], False))
    assert border(config.output) == {"states": ("TYPE_FP32", [-1, 32], False)}


def test_a_policy_can_be_loaded_with_all_revisions_that_have_one_border():
    config = parsed(policy_config(EditGraph(48, 32), "policy_family", all_versions=True))
    assert (config.name, config.backend) == ("policy_family", "onnxruntime")
    assert config.version_policy.WhichOneof("policy_choice") == "all"
    assert border(config.input) == {"states": STATES, "attention_mask": TOKENS["attention_mask"]}
    assert border(config.output) == {"prompt_embeds": STATES}
    tuned = policy_config(TunedEncoderGraph(48, 32, 99), "policy_family", all_versions=False)
    config = parsed(tuned)
    assert not config.HasField("version_policy"), "Triton's default is the newest alone"
    assert border(config.input) == TOKENS
    assert border(config.output) == {"prompt_embeds": STATES}


def test_prompt_encoder_batches_requests_of_any_policy():
    config = parsed(prompt_encoder_config(16))
    assert (config.name, config.backend, config.max_batch_size) == ("prompt_encoder", "python", 16)
    assert config.HasField("dynamic_batching")
    assert not config.model_transaction_policy.decoupled
    assert border(config.input) == {
        "input_ids": ("TYPE_INT64", [-1], False),
        "attention_mask": ("TYPE_INT64", [-1], False),
        "policy": ("TYPE_STRING", [1], False),
        "revision": ("TYPE_INT64", [1], False),
    }
    assert {entry.name: entry.allow_ragged_batch for entry in config.input} == {
        "input_ids": True,
        "attention_mask": True,
        "policy": False,
        "revision": False,
    }
    assert border(config.output) == {"prompt_embeds": ("TYPE_FP32", [-1, -1], False)}
    assert [group.count for group in config.instance_group] == [1]


def test_video_denoiser_batches_without_queue_policies_and_reshapes_the_timestep():
    config = parsed(batched_config(VideoDenoiserGraph(4, 48, 32, 2, 1000, vae_scale=8)))
    assert config.max_batch_size == 8
    assert config.HasField("dynamic_batching")
    assert not config.dynamic_batching.max_queue_delay_microseconds, "every lone step would wait"
    assert not config.dynamic_batching.HasField("default_queue_policy")
    assert border(config.input) == {
        "sample": ("TYPE_FP32", [4, -1, -1, -1], False),
        "timestep": ("TYPE_FP32", [1], True),
        "encoder_hidden_states": ("TYPE_FP32", [48, 32], False),
    }
    assert list(config.input[1].reshape.shape) == []
    assert border(config.output) == {"noise_pred": ("TYPE_FP32", [4, -1, -1, -1], False)}


def test_vae_decoder_gives_bytes_with_the_colours_last():
    config = parsed(graph_config(VAEDecoderGraph(4, 8), "vae_decoder"))
    assert config.max_batch_size == 4
    assert border(config.output) == {"frames": ("TYPE_UINT8", [-1, -1, -1, 3], False)}


def test_an_engine_that_compiles_shapes_gets_its_parameters_and_what_to_warm_up():
    sizes = {"B": 2, "F": 16, "h": 8, "w": 8}
    service = Service(Engine("openvino", "bfloat16"), static_shapes=4, warm_up=sizes)
    config = parsed(batched_config(VideoDenoiserGraph(4, 48, 32, 2, 1000, vae_scale=8), service))
    assert (config.backend, config.platform) == ("openvino", "")
    assert config.default_model_filename == "model.onnx"
    assert config.instance_group[0].kind == pb.ModelInstanceGroup.KIND_CPU
    values = {name: value.string_value for name, value in config.parameters.items()}
    assert json.loads(values.pop("WARM_UP_SHAPES")) == {
        "sample": [2, 4, 16, 8, 8],
        "timestep": [2],
        "encoder_hidden_states": [2, 48, 32],
    }
    assert values == {
        "HINT_BF16": "YES",
        "NUM_STREAMS": "1",
        "PERFORMANCE_HINT": "LATENCY",
        "STATIC_SHAPES": "4",
    }


@pytest.mark.parametrize("name", ["openvino", "tensorrt"])
def test_an_engine_differs_from_onnx_runtime_in_what_loads_it_alone(name):
    graph = VideoDenoiserGraph(4, 48, 32, 2, 1000, vae_scale=8)
    simple, engine = (
        parsed(batched_config(graph, Service(Engine(one)))) for one in ("onnxruntime", name)
    )
    assert not simple.parameters
    if name == "tensorrt":
        assert (engine.platform, engine.backend) == ("tensorrt_plan", "")
        assert engine.default_model_filename == "model.plan"
        (group,) = engine.instance_group
        assert (group.count, group.kind) == (1, group.KIND_GPU)
    for field in ("platform", "default_model_filename", "instance_group", "backend", "parameters"):
        engine.ClearField(field)
        simple.ClearField(field)
    assert engine == simple


def test_text_to_video_is_decoupled_and_needs_only_a_prompt():
    config = parsed(text_to_video_config())
    assert config.model_transaction_policy.decoupled
    assert (config.backend, config.max_batch_size) == ("python", 0)
    assert [t.name for t in config.input if not t.optional] == ["prompt"]
    assert all(list(t.dims) == [1] for t in config.input)
    assert border(config.output) == {
        "event": ("TYPE_STRING", [1], False),
        "frames": ("TYPE_UINT8", [-1, -1, -1, 3], False),
    }


def test_no_configuration_is_bound_to_a_gpu():
    for config in (
        text_to_video_config(),
        batched_config(VideoDenoiserGraph(4, 48, 32, 2, 1000, vae_scale=8)),
    ):
        assert len(config.instance_group) == 1
        assert not config.instance_group[0].gpus
