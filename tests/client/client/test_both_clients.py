"""What users do with the clients, against servers in memory and in this process: both clients."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from contextlib import aclosing
from pathlib import Path

import grpc
import numpy as np
import pytest

from unsee.client.async_client import AsyncClient
from unsee.client.client import Client
from unsee.client.connection import RETRY_AFTER
from unsee.client.testing import FakeServer, gradient_clip
from unsee.core.errors import (
    Cancelled,
    DeadlineExceeded,
    InputError,
    RequestRejected,
    ServerError,
    ServerUnreachable,
)
from unsee.media.clip import Clip, Part, Progress


def full(times):
    return [RequestRejected("full", "RESOURCE_EXHAUSTED", retry_after_s=0.001)] * times


class Sync:
    """`Client` as both clients are used here: everything that waits is a plain call."""

    def __init__(self, **options):
        self._options = options

    def generate(self, *args, **options):
        with Client(**self._options) as client:
            return client.generate(*args, **options)

    def stream(self, *args, **options):
        with Client(**self._options) as client:
            return list(client.stream(*args, **options))

    def generate_many(self, *args, **options):
        with Client(**self._options) as client:
            return list(client.generate_many(*args, **options))


class Asynchronous:
    """The same with `AsyncClient` in an event loop of its own."""

    def __init__(self, **options):
        self._options = options

    def generate(self, *args, **options):
        async def main():
            async with AsyncClient(**self._options) as client:
                return await client.generate(*args, **options)

        return asyncio.run(main())

    def _all(self, method, *args, **options):
        async def main():
            async with AsyncClient(**self._options) as client:
                return [event async for event in getattr(client, method)(*args, **options)]

        return asyncio.run(main())

    def stream(self, *args, **options):
        return self._all("stream", *args, **options)

    def generate_many(self, *args, **options):
        return self._all("generate_many", *args, **options)


both = pytest.mark.parametrize("kind", [Sync, Asynchronous])


@pytest.fixture
def anyio_backend():
    return "asyncio"


@both
def test_over_a_real_connection(kind, server, expected_frames):
    *steps, clip = kind(url=server.url, token="secret").stream("Blimbo walking", seed=7)
    assert steps == [Progress(1, 3), Progress(2, 3), Progress(3, 3)]
    assert isinstance(clip, Clip)
    assert (clip.record.prompt, clip.record.policy) == ("Blimbo walking", "family")
    assert clip.record.seconds["video_denoiser"] == 0.7
    np.testing.assert_array_equal(clip.frames, expected_frames)
    assert server.requests == [{"prompt": "Blimbo walking", "seed": 7}]
    assert server.metadata["authorization"] == "Bearer secret"
    assert "triton_grpc_error" not in server.metadata  # it can crash the server


def test_every_option_reaches_the_server_with_its_type(server):
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
        "stream_frames": True,
    }
    Sync(url=server.url).generate("ein Blümchen 🌼", **options)
    assert server.requests == [{"prompt": "ein Blümchen 🌼", **options}]


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
def test_a_status_becomes_its_error(server, status, kind):
    def answer(inputs, context):
        context.abort(status, "the policy is not known")
        yield

    server.answer = answer
    with pytest.raises(kind) as caught:
        Sync(url=server.url).generate("x")
    if kind is RequestRejected:
        assert caught.value.status == status.name
        assert str(caught.value) == "the policy is not known"


@both
def test_the_hint_of_a_gateway_is_followed(kind, server):
    good = server.answer

    def answer(inputs, context):
        if len(server.requests) < 3:
            context.set_trailing_metadata(((RETRY_AFTER, "20"),))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full; try again in 1 s")
        yield from good(inputs, context)

    server.answer = answer
    assert isinstance(kind(url=server.url).generate("x"), Clip)
    assert len(server.requests) == 3
    server.requests.clear()
    with pytest.raises(RequestRejected, match="full") as caught:
        kind(url=server.url, retries=0).generate("x")
    assert caught.value.retry_after_s == 0.02


@both
@pytest.mark.parametrize("hint", ["soon", "", "-5"])
def test_a_hint_that_makes_no_sense_does_no_harm(kind, server, hint):
    def answer(inputs, context):
        context.set_trailing_metadata((("retry-after-ms", hint),))
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        yield

    server.answer = answer
    with pytest.raises(RequestRejected, match="full"):
        kind(url=server.url).generate("x")


@both
def test_an_idle_server_is_given_up_and_the_request_cancelled(kind, server, fake):
    server.answer = fake.one_step_and_silence
    with pytest.raises(DeadlineExceeded, match=r"is there but sent nothing for 0\.2 s"):
        kind(url=server.url).generate("x", idle_timeout_s=0.2)
    assert server.cancelled.wait(5)


@both
def test_an_idle_timeout_does_not_disturb_what_moves(kind, server):
    assert isinstance(kind(url=server.url, idle_timeout_s=10.0).generate("x"), Clip)


@both
def test_nobody_there_is_reported_at_once(kind):
    started = time.monotonic()
    with pytest.raises(ServerUnreachable, match="no server answers at 127"):
        kind(url="127.0.0.1:1", retries=1, connect_timeout_s=30).generate("x")
    assert time.monotonic() - started < 5


def test_a_silent_address_is_given_up_after_the_connect_timeout():
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it never speaks HTTP/2
        url = f"127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(ServerUnreachable):
            Sync(url=url, connect_timeout_s=0.5).generate("x")
        assert time.monotonic() - started < 5


@both
def test_the_deadline_ends_a_slow_request(kind, server, fake):
    server.answer = fake.one_step_and_silence
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"within 0\.3 s"):
        kind(url=server.url).generate("x", timeout_s=0.3)
    assert time.monotonic() - started < 5
    assert server.cancelled.wait(5)


@pytest.fixture
def server_process():
    """The address of a server in a process of its own, and the process.

    gRPC may never end a call to a server that was stopped in the caller's own process.
    """
    code = (
        "import conftest, threading; server = conftest.FakeServer(); "
        "print(server.url, flush=True); threading.Event().wait()"
    )
    paths = [str(Path(__file__).parents[1]), *sys.path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().strip(), process
        process.kill()


@pytest.mark.process
@pytest.mark.anyio
async def test_a_server_that_has_gone_since_the_last_clip(server_process):
    url, process = server_process
    with Client(url, retries=0) as client:
        client.generate("x")
        process.kill()
        process.wait()
        with pytest.raises(ServerError):
            client.generate("x")  # it may still go into the connection that is just ending
        with pytest.raises(ServerUnreachable, match="no server answers") as caught:
            client.generate("x")
    assert caught.value.retryable  # nothing was sent
    async with AsyncClient(url, retries=0) as client:
        client._peer.reached = True
        with pytest.raises(ServerUnreachable, match="no server answers"):
            await client.generate("x")


@both
def test_the_clips_bytes_and_the_callback(kind):
    server, seen = FakeServer(), []
    clip = kind(transport=server).generate("x", on_progress=seen.append, num_inference_steps=2)
    assert seen == [Progress(1, 2), Progress(2, 2)]
    assert (clip.frames == gradient_clip({"prompt": "x"}).frames).all()


@both
@pytest.mark.parametrize(
    ("option", "value", "kind_of_error"),
    [
        ("steps", 3, TypeError),
        ("timeout_s", 0, InputError),
        ("idle_timeout_s", -1.0, InputError),
        ("retries", -1, InputError),
        ("seed", "seven", InputError),
    ],
)
def test_an_option_that_makes_no_sense_is_said_before_anything_is_sent(
    kind, option, value, kind_of_error
):
    server = FakeServer()
    with pytest.raises(kind_of_error, match=option):
        kind(transport=server).generate("x", **{option: value})
    assert server.requests == []


@both
def test_frames_come_as_soon_as_they_are_decoded_and_the_clip_has_them_all(kind):
    server = FakeServer(num_steps=1)
    whole = kind(transport=server).generate("x", num_frames=9)
    options = {"num_frames": 9, "stream_frames": True}
    step, *parts, clip = kind(transport=server).stream("x", **options)
    assert step == Progress(1, 1)
    assert [(part.first_frame, len(part.frames)) for part in parts] == [(0, 1), (1, 4), (5, 4)]
    assert all(isinstance(part, Part) and part.num_frames == 9 for part in parts)
    (_, one), seen = *kind(transport=server).generate_many(["x"], **options), []
    again = kind(transport=server).generate("x", on_progress=seen.append, **options)
    assert seen == [Progress(1, 1)]
    for made in (clip, one, again):
        np.testing.assert_array_equal(made.frames, whole.frames)


@pytest.mark.parametrize("value", [1, "true", 0.0])
def test_only_true_and_false_say_whether_to_stream(value):
    with pytest.raises(InputError, match="stream_frames must be True or False, got"):
        Sync(transport=FakeServer()).generate("x", stream_frames=value)


@both
def test_many_clips_come_with_their_index_and_errors_in_their_place(kind):
    server = FakeServer(refuse=[RequestRejected("no such policy", "NOT_FOUND")])
    asked = ["a", {"prompt": "b", "seed": 5}, {"prompt": "c", "steps": 1}, 7, {"seed": 1}, "d"]
    outcomes = dict(kind(transport=server).generate_many(asked, max_in_flight=1, seed=1))
    assert list(outcomes) == list(range(6))
    assert outcomes[0].status == "NOT_FOUND"
    assert (outcomes[1].record.prompt, outcomes[1].record.seed) == ("b", 5)
    assert isinstance(outcomes[2], InputError)
    assert "'steps'" in str(outcomes[2])
    assert "got 7" in str(outcomes[3])
    assert isinstance(outcomes[4], InputError)
    assert (outcomes[5].record.prompt, outcomes[5].record.seed) == ("d", 1)


@both
@pytest.mark.parametrize("max_in_flight", [1, 3])
def test_no_more_are_in_flight_than_allowed_and_requests_are_read_no_faster(kind, max_in_flight):
    asked, done, most = [], [], 0

    def prompts():
        nonlocal most
        for index in range(12):
            asked.append(index)
            most = max(most, len(asked) - len(done))
            yield f"prompt {index}"

    server = FakeServer(num_steps=1, step_s=0.005)
    steps = []

    def on_progress(index, step):
        steps.append(index)

    def finished(inputs):
        done.append(inputs)
        return gradient_clip(inputs)

    server._clips = finished
    outcomes = kind(transport=server).generate_many(
        prompts(), max_in_flight=max_in_flight, on_progress=on_progress
    )
    assert sorted(index for index, _ in outcomes) == sorted(steps) == list(range(12))
    assert most <= 2 * max_in_flight


@both
def test_many_of_none(kind):
    assert kind(transport=FakeServer()).generate_many([]) == []
    with pytest.raises(InputError, match="max_in_flight"):
        kind(transport=FakeServer()).generate_many(["a"], max_in_flight=0)


@both
def test_a_fault_in_a_callback_ends_it_all(kind):
    server = FakeServer(step_s=0.01)

    def on_progress(index, step):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        kind(transport=server).generate_many(["a"] * 20, on_progress=on_progress)
    assert len(server.requests) < 20


def test_leaving_many_early_cancels_what_is_in_flight():
    server = FakeServer(step_s=30.0)
    quick = FakeServer(lambda inputs: gradient_clip(inputs), num_steps=0)
    with Client(transport=quick) as client:
        outcomes = client.generate_many(["a"] * 50, max_in_flight=2)
        next(outcomes)
        outcomes.close()
        assert len(quick.requests) <= 5
    with Client(transport=server) as client:
        with pytest.raises(KeyboardInterrupt):
            for _ in client.generate_many(_then_interrupted(), max_in_flight=3):
                pass
        assert server.cancelled == 2


def _then_interrupted():
    yield "a"
    yield "b"
    time.sleep(0.3)  # both have begun
    raise KeyboardInterrupt


@pytest.mark.anyio
async def test_cancelling_a_task_cancels_its_requests(server, fake):
    server.answer = fake.one_step_and_silence
    async with AsyncClient(server.url) as client:
        begun = asyncio.Event()
        task = asyncio.create_task(client.generate("x", on_progress=lambda step: begun.set()))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server.cancelled.wait, 5)


def test_closing_the_iterator_cancels_on_the_server(server, fake):
    server.answer = fake.one_step_and_silence
    with Client(server.url) as client:
        events = client.stream("x")
        assert next(events) == Progress(1, 3)
        assert not server.cancelled.is_set()
        events.close()
        assert server.cancelled.wait(5)


@pytest.mark.anyio
async def test_leaving_an_async_loop_early_cancels(server, fake):
    server.answer = fake.one_step_and_silence
    async with AsyncClient(server.url) as client:
        async with aclosing(client.stream("x")) as events:
            async for _ in events:
                break
        assert await asyncio.to_thread(server.cancelled.wait, 5)


@pytest.mark.anyio
async def test_many_tasks_are_cancelled_with_the_one_that_reads_them():
    server = FakeServer(step_s=30.0)
    async with AsyncClient(transport=server) as client:
        reading = asyncio.create_task(anext(client.generate_many(["a"] * 9, max_in_flight=3)))
        await asyncio.sleep(0.2)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    assert len(server.requests) == server.cancelled == 3


@pytest.mark.anyio
async def test_async_clips_are_made_side_by_side():
    server, asked_by_then = FakeServer(num_steps=1, step_s=0.2), []
    async with AsyncClient(transport=server) as client:

        def on_progress(step):
            asked_by_then.append(len(server.requests))

        clips = (client.generate(str(k), on_progress=on_progress) for k in range(20))
        await asyncio.gather(*clips)
    assert asked_by_then == [20] * 20


@pytest.mark.parametrize("closed_before", [True, False])
@pytest.mark.anyio
async def test_a_closed_client_says_so(server, closed_before):
    client = Client(server.url)
    if not closed_before:
        client.generate("x")
    client.close()
    with pytest.raises(InputError, match="closed"):
        client.generate("x")
    client = AsyncClient(server.url)
    if not closed_before:
        await client.generate("x")
    await client.close()
    with pytest.raises(InputError, match="closed"):
        await client.generate("x")


@pytest.mark.parametrize("who", ["client", "server"])
def test_closing_a_client_cancels_its_streams_and_so_does_a_server_that_dies(server, fake, who):
    server.answer = fake.one_step_and_silence
    with Client(server.url) as client:
        events = client.stream("x")
        next(events)
        client.close() if who == "client" else server.stop()
        with pytest.raises(Cancelled if who == "client" else ServerError):
            next(events)


def test_two_requests_share_one_client(server):
    with Client(server.url) as client:
        first, second = client.stream("a"), client.stream("b")
        assert next(first) == next(second) == Progress(1, 3)
        assert [list(first)[-1].record.prompt, list(second)[-1].record.prompt] == ["a", "b"]


@both
def test_the_fake_server_refuses_as_often_as_it_is_told(kind):
    assert isinstance(kind(transport=FakeServer(refuse=full(2))).generate("x"), Clip)
    with pytest.raises(RequestRejected) as caught:
        kind(transport=FakeServer(refuse=full(3))).generate("x")
    assert (caught.value.status, caught.value.retry_after_s) == ("RESOURCE_EXHAUSTED", 0.001)
    for refusal in (ServerUnreachable("gone"), DeadlineExceeded("late"), Cancelled("off")):
        with pytest.raises(type(refusal)):
            kind(transport=FakeServer(refuse=[refusal]), retries=0).generate("x")


@both
def test_the_fake_server_keeps_time(kind):
    with pytest.raises(DeadlineExceeded, match=r"within 0\.05 s"):
        kind(transport=FakeServer(step_s=30.0)).generate("x", timeout_s=0.05)
    with pytest.raises(DeadlineExceeded, match=r"nothing for 0\.05 s"):
        kind(transport=FakeServer(step_s=30.0)).generate("x", idle_timeout_s=0.05)


@both
def test_the_fake_server_gives_its_clips_in_turn(kind):
    first, second = (gradient_clip({"prompt": name}) for name in "ab")
    outcomes = kind(transport=FakeServer([first, second])).generate_many("xyz", max_in_flight=1)
    assert [clip.record.prompt for _, clip in outcomes] == ["a", "b", "b"]
