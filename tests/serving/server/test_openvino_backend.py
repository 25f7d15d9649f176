"""The stand-in for the `openvino` backend: shapes kept compiled, parameters, a real Triton."""

import concurrent.futures
import shutil
import sys

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from serving_fakes import CHANNELS, HIDDEN_SIZE, PROMPT_TOKENS, triton_of
from stand_in_fakes import Request, load_backend, load_model, parameters
from unsee.client.client import Client
from unsee.core.errors import ServerNotReady


@pytest.fixture
def backend(monkeypatch):
    monkeypatch.setenv("UNSEE_THREADS", "1")
    return load_backend(monkeypatch, "openvino")


@pytest.fixture
def load(backend, fake_repository):
    def load(name, **values):
        given = parameters(**values)
        return load_model(backend, fake_repository, name, parameters=given)

    return load


def latents(rows, frames=3, channels=CHANNELS):
    array = np.arange(rows * channels * frames * 4, dtype=np.float32) % 7 / 7
    return Request(["frames"], latents=array.reshape(rows, channels, frames, 2, 2))


def unet_call(rows, seed=0):
    generator = np.random.default_rng(seed)
    return Request(
        ["noise_pred"],
        sample=generator.standard_normal((rows, CHANNELS, 2, 2, 2), np.float32),
        timestep=np.linspace(1, 999, rows, dtype=np.float32),
        encoder_hidden_states=generator.standard_normal(
            (rows, PROMPT_TOKENS, HIDDEN_SIZE), np.float32
        ),
    )


def output(model, request):
    (response,) = model.execute([request])
    assert response.error is None
    (array,) = response.tensors.values()
    return array


@pytest.mark.parametrize("static_shapes", ["0", "2"])
def test_it_computes_what_onnx_runtime_computes(load, monkeypatch, fake_repository, static_shapes):
    other = load_model(load_backend(monkeypatch, "onnxruntime"), fake_repository, "video_denoiser")
    model = load("video_denoiser", STATIC_SHAPES=static_shapes)
    for request in (unet_call(2), unet_call(1, seed=1)):
        np.testing.assert_allclose(output(model, request), output(other, request), atol=1e-5)


def test_requests_that_come_together_give_the_bytes_that_each_gives_alone(load):
    model = load("video_denoiser", STATIC_SHAPES="2", HINT_BF16="YES")
    requests = [unet_call(2), unet_call(1, seed=1), unet_call(2, seed=2)]
    alone = [output(model, request) for request in requests]
    together = [response.tensors["noise_pred"] for response in model.execute(requests)]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)
    assert [len(array) for array in together] == [2, 1, 2]


def test_the_shapes_that_were_used_last_stay_compiled(load):
    model = load("vae_decoder", STATIC_SHAPES="2")
    session = model._session
    for frames in (1, 2, 1, 3):
        assert output(model, latents(1, frames)).shape[1] == frames
    kept = list(session._compiled)
    assert [shapes[0][2] for shapes in kept] == [1, 3]
    before = session._infer_request(kept[0])
    output(model, latents(1, 1))
    assert session._infer_request(list(session._compiled)[-1]) is before


def test_without_static_shapes_one_graph_takes_all(load):
    model = load("vae_decoder")
    for rows, frames in ((1, 1), (2, 3)):
        assert output(model, latents(rows, frames)).shape[:2] == (rows, frames)
    assert list(model._session._compiled) == [None]


def test_a_shape_that_the_graph_refuses_is_an_error_of_its_request_alone(load):
    model = load("vae_decoder", STATIC_SHAPES="1")
    good, bad, last = model.execute([latents(1), latents(1, channels=5), latents(1)])
    assert good.error is None
    assert last.error is None
    assert bad.error == "vae_decoder, version 1: the graph cannot be run (RuntimeError)"


def test_what_is_warmed_up_need_not_be_compiled_again(load):
    model = load("vae_decoder", STATIC_SHAPES="2", WARM_UP_SHAPES='{"latents": [1, 4, 3, 2, 2]}')
    assert list(model._session._compiled) == [((1, 4, 3, 2, 2),)]
    output(model, latents(1))
    assert len(model._session._compiled) == 1


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("HINT_BF16", "maybe", "HINT_BF16 must be YES or NO, not 'maybe'"),
        ("STATIC_SHAPES", "-1", "STATIC_SHAPES must be a whole number from 0 on, not '-1'"),
        ("NUM_STREAMS", "many", "NUM_STREAMS must be a whole number"),
        ("INFERENCE_NUM_THREADS", "1.5", "INFERENCE_NUM_THREADS must be a whole number"),
        ("PERFORMANCE_HINT", "FAST", "PERFORMANCE_HINT must be LATENCY or THROUGHPUT, not 'FAST'"),
        ("WARM_UP_SHAPES", "[1", r"WARM_UP_SHAPES must be a JSON object .* not '\[1'"),
        ("WARM_UP_SHAPES", '{"z": [1]}', r"gives shapes of \['z'\], the graph has \['latents'\]"),
    ],
)
def test_a_parameter_that_does_not_fit_is_refused_in_a_sentence(load, name, value, sentence):
    with pytest.raises(RuntimeError, match=f"^vae_decoder, version 1: .*{sentence}") as caught:
        load("vae_decoder", **{name: value})
    assert "\n" not in str(caught.value)


def test_without_the_package_the_sentence_says_what_to_install(load, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(RuntimeError, match=r'openvino is not installed; .* "unsee\[serve\]"'):
        load("vae_decoder")


def test_a_file_that_is_no_graph_is_refused_without_a_path(load, backend, fake_repository):
    with pytest.raises(RuntimeError) as caught:
        load_model(backend, fake_repository, "vae_decoder", default_model_filename="export.json")
    assert str(caught.value) == (
        "vae_decoder, version 1: OpenVINO cannot open export.json (RuntimeError)"
    )


def test_properties_follow_the_parameters_before_the_environment(backend):
    properties = backend.compile_properties({"HINT_BF16": "yes", "NUM_STREAMS": "auto"})
    assert properties["INFERENCE_PRECISION_HINT"] == "bf16"
    assert properties["NUM_STREAMS"] == "AUTO"
    assert properties["INFERENCE_NUM_THREADS"] == 1
    assert backend.compile_properties({})["INFERENCE_PRECISION_HINT"] == "f32"
    threads = backend.compile_properties({"INFERENCE_NUM_THREADS": "2"})
    assert threads["INFERENCE_NUM_THREADS"] == 2


def with_openvino(repository, **values):
    """The video denoiser and the VAE decoder of `repository` are OpenVINO's from now on."""
    for name in ("video_denoiser", "vae_decoder"):
        file = repository / name / "config.pbtxt"
        config = text_format.Parse(file.read_text(), model_config_pb2.ModelConfig())
        config.backend = "openvino"
        for key, value in values.items():
            config.parameters[key].string_value = value
        file.write_text(text_format.MessageToString(config))
    return repository


@pytest.mark.triton
def test_in_triton_clips_are_those_of_onnx_runtime_alone_or_at_once(
    fake_repository, server, tmp_path
):
    repository = shutil.copytree(fake_repository, tmp_path / "repository")
    with_openvino(repository, STATIC_SHAPES="4")
    cases = [(policy, seed) for policy in ("base", "family") for seed in (1, 2)]
    with Client(server.settings.grpc_url) as other:
        wanted = [frames(other, case) for case in cases]
    with triton_of(repository) as openvino, Client(openvino.settings.grpc_url) as client:
        alone = [frames(client, case) for case in cases]
        with concurrent.futures.ThreadPoolExecutor(len(cases)) as pool:
            at_once = list(pool.map(lambda case: frames(client, case), cases))
    for one, both, onnx in zip(alone, at_once, wanted, strict=True):
        np.testing.assert_array_equal(one, both)
        assert np.abs(one.astype(int) - onnx.astype(int)).max() <= 1


@pytest.mark.triton
def test_triton_says_which_parameter_does_not_fit(fake_repository, tmp_path):
    repository = shutil.copytree(fake_repository, tmp_path / "repository")
    with_openvino(repository, STATIC_SHAPES="some")
    sentence = "STATIC_SHAPES must be a whole number from 0 on, not 'some'"
    with pytest.raises(ServerNotReady, match=sentence), triton_of(repository):
        pass


def frames(client, case):
    policy, seed = case
    return client.generate("a cat", policy=policy, seed=seed).frames
