"""The client against a gRPC server in this process: order, errors, cancelling, deadlines."""

import socket
import time

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from unsee.client.client import Client
from unsee.core.errors import (
    Cancelled,
    DeadlineExceeded,
    InputError,
    RequestRejected,
    ServerError,
    ServerUnreachable,
)
from unsee.media.clip import Clip, Progress


def until(context):
    """Waits as a busy model would, until the caller goes away."""
    while context.is_active():
        time.sleep(0.01)


@pytest.fixture
def client(server):
    with Client(server.url, timeout_s=20) as client:
        yield client


def test_progress_comes_first_and_the_clip_last(client):
    *steps, clip = client.stream("Blimbo walking")
    assert steps == [Progress(1, 3), Progress(2, 3), Progress(3, 3)]
    assert isinstance(clip, Clip)
    assert clip.record.prompt == "Blimbo walking"
    assert clip.record.policy == "family"
    assert clip.record.seconds["video_unet"] == 0.7


def test_frames_are_the_bytes_that_the_server_sent(client, expected_frames):
    np.testing.assert_array_equal(client.generate("x").frames, expected_frames)


def test_what_is_not_given_is_not_sent(client, server):
    client.generate("x")
    assert server.requests == [{"prompt": "x"}]
    assert "triton_grpc_error" not in server.metadata  # it can crash the server


def test_every_option_reaches_the_server_with_its_type(client, server):
    options = {
        "policy": "family",
        "revision": 2**40,
        "seed": -5,
        "negative_prompt": "",
        "num_inference_steps": 7,
        "guidance_scale": 2.5,
        "num_frames": 3,
        "height": 64,
        "width": 72,
        "scheduler": "DDIMScheduler",
        "acceleration": "fast",
    }
    client.generate("ein Blümchen 🌼", **options)
    assert server.requests == [{"prompt": "ein Blümchen 🌼", **options}]


@pytest.mark.parametrize(
    ("option", "value"), [("seed", 2**63), ("num_frames", 2**31), ("seed", "seven")]
)
def test_a_value_that_does_not_fit_is_the_callers_error(client, server, option, value):
    with pytest.raises(InputError, match=option):
        client.generate("x", **{option: value})
    assert server.requests == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, RequestRejected),
        (grpc.StatusCode.NOT_FOUND, RequestRejected),
        (grpc.StatusCode.INTERNAL, RequestRejected),
        (grpc.StatusCode.UNAVAILABLE, RequestRejected),
        (grpc.StatusCode.CANCELLED, Cancelled),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceeded),
    ],
)
def test_a_status_becomes_its_error(client, server, status, kind):
    def answer(inputs, context):
        context.abort(status, "the policy is not known")
        yield

    server.answer = answer
    with pytest.raises(kind) as caught:
        client.generate("x")
    if kind is RequestRejected:
        assert caught.value.status == status.name
        assert str(caught.value) == "the policy is not known"


def test_an_error_inside_the_stream_is_an_error_too(client, server):
    server.answer = lambda inputs, context: iter(
        [service_pb2.ModelStreamInferResponse(error_message="no such policy")]
    )
    with pytest.raises(RequestRejected, match="no such policy") as caught:
        client.generate("x")
    assert caught.value.status == "UNKNOWN"


def test_an_error_inside_the_stream_brings_its_status(client, server):
    text = 'NOT_FOUND: there is no policy "x: y";\nit has: base'
    server.answer = lambda inputs, context: iter(
        [service_pb2.ModelStreamInferResponse(error_message=text)]
    )
    with pytest.raises(RequestRejected) as caught:
        client.generate("x")
    assert caught.value.status == "NOT_FOUND"
    assert str(caught.value) == 'there is no policy "x: y";\nit has: base'


def test_a_stream_without_a_clip_is_an_error(client, server):
    server.answer = lambda inputs, context: iter([])
    with pytest.raises(ServerError, match="without a clip"):
        client.generate("x")


def test_a_foreign_answer_is_an_error(client, server, fake):
    server.answer = lambda inputs, context: iter([fake.event({"hello": 1})])
    with pytest.raises(ServerError, match="same version"):
        client.generate("x")


def test_an_incomplete_record_names_the_field(client, server, fake):
    record = {k: v for k, v in fake.RECORD.items() if k != "seed"}
    answer = fake.event({"type": "result", "record": record}, fake.frames())
    server.answer = lambda inputs, context: iter([answer])
    with pytest.raises(ServerError, match="seed: this field is missing"):
        client.generate("x")


def test_a_record_keeps_what_a_newer_server_adds(client, server, fake):
    record = fake.RECORD | {"watermark": "none"}
    answer = fake.event({"type": "result", "record": record}, fake.frames())
    server.answer = lambda inputs, context: iter([answer])
    assert client.generate("x").record.model_dump()["watermark"] == "none"


def test_frames_of_a_wrong_length_are_an_error(client, server, fake):
    answer = fake.event({"type": "result", "record": fake.RECORD}, fake.frames())
    answer.infer_response.outputs[0].shape[0] = 5
    server.answer = lambda inputs, context: iter([answer])
    with pytest.raises(ServerError, match="same version"):
        client.generate("x")


def test_closing_the_iterator_cancels_on_the_server(client, server, fake):
    def answer(inputs, context):
        yield fake.event({"type": "progress", "step": 1, "num_inference_steps": 3})
        until(context)

    server.answer = answer
    events = client.stream("x")
    assert next(events) == Progress(1, 3)
    assert not server.cancelled.is_set()
    events.close()
    assert server.cancelled.wait(5)


def test_the_deadline_ends_a_slow_request(client, server):
    def answer(inputs, context):
        until(context)
        yield

    server.answer = answer
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"within 0\.3 s"):
        client.generate("x", timeout_s=0.3)
    assert time.monotonic() - started < 5
    assert server.cancelled.wait(5)


def test_a_refused_connection_is_reported_at_once():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"127.0.0.1:{unused.getsockname()[1]}"
    started = time.monotonic()
    with Client(url, connect_timeout_s=30) as client, pytest.raises(ServerUnreachable, match=url):
        client.generate("x")
    assert time.monotonic() - started < 5


def test_a_silent_address_is_given_up_after_the_connect_timeout():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # accepts the connection and never speaks HTTP/2
        url = f"127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with Client(url, connect_timeout_s=0.5) as client, pytest.raises(ServerUnreachable):
            client.generate("x")
        assert time.monotonic() - started < 5


def test_a_server_that_dies_in_the_middle_is_unreachable(client, server, fake):
    def answer(inputs, context):
        yield fake.event({"type": "progress", "step": 1, "num_inference_steps": 3})
        until(context)

    server.answer = answer
    events = client.stream("x")
    next(events)
    server.stop()
    with pytest.raises(ServerError):
        next(events)


def test_two_requests_share_one_client(client):
    first, second = client.stream("a"), client.stream("b")
    assert next(first) == next(second) == Progress(1, 3)
    assert [list(first)[-1].record.prompt, list(second)[-1].record.prompt] == ["a", "b"]
