"""The stand-in backend without a server: batches, errors of one request, outputs that lie."""

import numpy as np
import pytest

from stand_in_fakes import Request, load_backend, load_model, parameters


@pytest.fixture
def backend(monkeypatch):
    return load_backend(monkeypatch, "onnxruntime")


@pytest.fixture
def load(backend, fake_repository):
    return lambda name, **changes: load_model(backend, fake_repository, name, **changes)


def latents(rows, size=2, channels=4):
    array = np.arange(rows * channels * 3 * size * size, dtype=np.float32) % 7 / 7
    return Request(["frames"], latents=array.reshape(rows, channels, 3, size, size))


def test_requests_of_one_shape_run_as_one_batch_and_come_apart_again(load):
    decoder = load("vae_decoder")
    requests = [latents(2), latents(1, size=3), latents(1)]
    alone = [decoder.execute([request])[0].tensors["frames"] for request in requests]
    together = [response.tensors["frames"] for response in decoder.execute(requests)]
    assert [frames.shape[0] for frames in together] == [2, 1, 1]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_one_bad_request_spoils_no_other(load):
    decoder = load("vae_decoder")
    good, bad = decoder.execute([latents(1), latents(1, channels=5)])
    assert good.error is None
    assert bad.error == "vae_decoder, version 1: the graph cannot be run (InvalidArgument)"
    assert bad.tensors == {}


def test_a_batch_that_fails_is_run_one_by_one(load):
    encoder = load("text_encoder")
    ids = [np.full((1, 48), token) for token in (5, 100_000, 7)]
    mask = np.ones((1, 48), np.int64)
    requests = [Request(["states"], input_ids=array, attention_mask=mask) for array in ids]
    first, bad, last = encoder.execute(requests)
    assert "cannot be run" in bad.error
    for response, request in ((first, requests[0]), (last, requests[2])):
        wanted = encoder.execute([request])[0].tensors["states"]
        np.testing.assert_array_equal(response.tensors["states"], wanted)


def test_an_output_that_breaks_the_configurations_promise_is_an_error(load):
    output = {"name": "frames", "data_type": "TYPE_UINT8", "dims": [-1, -1, -1, 4]}
    (response,) = load("vae_decoder", output=[output]).execute([latents(1)])
    assert "OutputMismatch" in response.error


def test_a_model_that_does_not_batch_runs_requests_alone(load):
    dims = [{"name": "frames", "data_type": "TYPE_UINT8", "dims": [-1, -1, -1, -1, 3]}]
    decoder = load("vae_decoder", max_batch_size=0, output=dims)
    assert [len(r.tensors["frames"]) for r in decoder.execute([latents(1), latents(2)])] == [1, 2]


def test_only_the_outputs_that_were_asked_for_are_sent(load):
    request = latents(1)
    request.outputs = []
    assert load("vae_decoder").execute([request])[0].tensors == {}


def test_who_only_asks_whether_it_answers_gets_zeros_and_spoils_no_batch(load):
    decoder = load("vae_decoder")
    alone = decoder.execute([latents(2)])[0].tensors["frames"]
    asks = Request(["frames"], latents=np.zeros((1, 4, 1, 1, 1), np.float32))
    asks.said = {"unsee_alive": True}
    answer, clip = decoder.execute([asks, latents(2)])
    assert (answer.error, answer.tensors["frames"].tolist()) == (None, [[[[[0, 0, 0]]]]])
    np.testing.assert_array_equal(clip.tensors["frames"], alone)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"default_model_filename": "graph.onnx"}, "there is no graph.onnx"),
        ({"default_model_filename": "export.json"}, "ONNX Runtime cannot open export.json"),
        ({"input": [{"name": "z"}]}, r"names the inputs \['z'\], the graph has \['latents'\]"),
    ],
)
def test_a_model_that_cannot_be_served_says_why(load, changes, sentence):
    with pytest.raises(RuntimeError, match=sentence):
        load("vae_decoder", **changes)


def test_threads_come_from_the_configuration_before_the_environment(backend, monkeypatch):
    monkeypatch.setenv("UNSEE_THREADS", "3")
    options = backend.session_options({})
    assert options.intra_op_num_threads == 3
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert backend.session_options({"intra_op_thread_count": "2"}).intra_op_num_threads == 2


def test_a_parameter_of_no_such_value_is_refused_when_the_model_loads(load):
    with pytest.raises(RuntimeError, match=r"intra_op_thread_count must be .* not 'two'"):
        load("vae_decoder", parameters=parameters(intra_op_thread_count="two"))
