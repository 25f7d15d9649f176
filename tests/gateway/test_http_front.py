"""The gateway over HTTP: events, statuses, and every way round it."""

import asyncio
import base64
import contextlib
import io
import json
import threading
import time
from contextlib import aclosing

import numpy as np
import pytest
from gateway_calls import PATH, ask, connection_to, posting, raw, refused
from wire_fakes import RECORD, error, event, in_parts

from gateway_fakes import FRAMES, failing, result, wait_until
from unsee.core.errors import InputError
from unsee.core.record import GenerationRecord
from unsee.core.request_schema import INPUTS
from unsee.gateway.callers.request import ClipRequest, HttpRequest, read_json
from unsee.gateway.fronts import http_front
from unsee.media import video_file
from unsee.media.clip import Clip, Part

REPORT = "/v2/policies/family/report"


@pytest.fixture
def served(serve):
    return serve(grpc=None, limits={"read_timeout_s": 1.0, "drain_timeout_s": 1.0})


@pytest.fixture(scope="module")
def idle(serve_all, repository_of_all):
    """For requests that never reach Triton, or only ask for its health."""
    limits = {"read_timeout_s": 1.0, "drain_timeout_s": 0.5}
    served = serve_all(grpc=None, repository=str(repository_of_all), limits=limits)
    yield served
    assert served.triton.streams == []


async def stuck(inputs, context):
    await asyncio.Event().wait()


def events(body):
    """[(name, content)] of a server-sent stream."""
    found = []
    for block in body.decode().split("\n\n")[:-1]:
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_a_clip_comes_as_events(served):
    code, headers, body = ask(served, body={"prompt": "a cat", "seed": 7, "guidance_scale": 3})
    assert code == 200
    assert headers["content-type"] == "text/event-stream"
    *steps, (name, content) = events(body)
    assert steps == [("progress", {"step": k, "num_inference_steps": 3}) for k in (1, 2, 3)]
    assert name == "result"
    assert content["record"]["policy"] == "family"
    np.testing.assert_array_equal(frames_in(content["clip"]), FRAMES)


async def streamed(inputs, context):
    assert inputs["stream_frames"] is True
    for answer in in_parts(RECORD, FRAMES):
        await context.write(answer)


def frames_in(file):
    assert file["format"] == "npy"
    return np.load(io.BytesIO(base64.b64decode(file["base64"])), allow_pickle=False)


def test_frames_come_as_they_are_decoded_and_not_again_at_the_end(served):
    served.triton.answer = streamed
    body = {"prompt": "a cat", "stream_frames": True}
    *parts, (name, content) = events(ask(served, body=body)[2])
    assert [name for name, _ in parts] == ["part", "part"]
    assert [part["first_frame"] for _, part in parts] == [0, 1]
    assert {(part["num_frames"], part["fps"]) for _, part in parts} == {(2, 8.0)}
    came = np.concatenate([frames_in(part["frames"]) for _, part in parts])
    np.testing.assert_array_equal(came, FRAMES)
    assert (name, content.keys()) == ("result", {"record"})


def test_a_decoder_that_dies_between_parts_is_told_and_what_was_sent_is_accounted(served, caplog):
    async def dies(inputs, context):
        await context.write(in_parts(RECORD, FRAMES)[0])
        await context.write(error("UNAVAILABLE: the VAE decoder cannot be used at the moment"))

    served.triton.answer = dies
    with caplog.at_level("INFO", "unsee.gateway.requests"):
        (first, _), (last, told) = events(
            ask(served, body={"prompt": "a cat", "stream_frames": True})[2]
        )
    assert (first, last) == ("part", "error")
    assert told == {
        "status": "UNAVAILABLE",
        "message": "the VAE decoder cannot be used at the moment",
    }
    line = json.loads(caplog.messages[-1])
    assert (line["outcome"], line["frames_sent"]) == ("failed", 1)


def clip_in_parts(gateway, who="kids", **inputs):
    """The events of a clip, as a front takes them."""
    (tenant,) = (tenant for tenant in gateway.settings.tenants if tenant.name == who)
    request = ClipRequest(prompt="a cat", stream_frames=True, **inputs)
    return aclosing(gateway.clip("http", tenant, lambda: (request, ""), gateway.deadline(None)))


def test_who_takes_parts_slowly_holds_no_place_and_makes_no_clip_look_slow(served, caplog):
    served.triton.answer = streamed
    pause_s = 0.5

    async def slowly():
        taken = []
        async with clip_in_parts(served.gateway) as answers:
            async for answer in answers:
                await asyncio.sleep(pause_s)
                taken.append((type(answer.event), served.gateway.admission.running))
        return taken

    with caplog.at_level("INFO", "unsee.gateway.requests"):
        assert served.run(slowly()) == [(Part, 0), (Part, 0), (Clip, 0)]
    line = json.loads(caplog.messages[-1])
    assert (line["outcome"], line["frames_sent"]) == ("ok", 2)
    assert line["clip_s"] < pause_s


def test_who_leaves_with_all_parts_but_the_record_is_noted_with_its_revision(served, caplog):
    served.triton.answer = streamed

    async def leaving():
        async with clip_in_parts(served.gateway) as answers:
            for _ in range(2):
                assert isinstance((await anext(answers)).event, Part)
            while served.gateway.admission.running:
                await asyncio.sleep(0.01)

    with caplog.at_level("INFO", "unsee.gateway.requests"):
        served.run(leaving())
    line = json.loads(caplog.messages[-1])
    assert (line["outcome"], line["frames_sent"], line["revision"]) == ("cancelled", 2, 2)


@pytest.mark.parametrize("inputs", [{}, {"revision": 1}], ids=["active", "pinned"])
def test_who_leaves_before_the_first_event_is_noted_with_the_revision_it_named(
    served, caplog, inputs
):
    served.triton.answer = stuck

    async def leaving():
        async with clip_in_parts(served.gateway, "studio", **inputs) as answers:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(anext(answers), 0.2)

    with caplog.at_level("INFO", "unsee.gateway.requests"):
        served.run(leaving())
    line = json.loads(caplog.messages[-1])
    assert line["outcome"] == "cancelled"
    assert {name: line[name] for name in line if name == "revision"} == inputs


@pytest.mark.process
@pytest.mark.parametrize("is_streamed", [False, True])
def test_the_clip_comes_as_mp4_beside_its_frames(served, tmp_path, is_streamed):
    body = {"prompt": "a cat", "files": ["mp4", "mp4"]}
    if is_streamed:
        served.triton.answer, body["stream_frames"] = streamed, True
    _, content = events(ask(served, body=body)[2])[-1]
    (file,) = content["files"]
    assert file["format"] == "mp4"
    clip = Clip(FRAMES, GenerationRecord.model_validate(content["record"]))
    same = clip.save(tmp_path / "clip.mp4").read_bytes()
    assert base64.b64decode(file["base64"]) == same
    assert ("clip" in content) == (not is_streamed)


@pytest.mark.parametrize(
    ("place", "name", "error"),
    [
        (http_front, "encoded", InputError("no ffmpeg")),
        (video_file.tempfile, "TemporaryDirectory", FileNotFoundError(2, "No usable folder")),
    ],
)
def test_without_an_encoder_or_room_for_it_the_clip_still_comes(
    served, monkeypatch, place, name, error
):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(place, name, fails)
    _, content = events(ask(served, body={"prompt": "a cat", "files": ["mp4"]})[2])[-1]
    assert content["files"] == []
    assert content["clip"]["format"] == "npy"


def test_no_clip_is_written_in_the_event_loop(served, monkeypatch):
    threads = set()

    def noted(write):
        def call(*arguments):
            threads.add(threading.current_thread())
            return write(*arguments)

        return call

    for name in ("_npy", "_file"):
        monkeypatch.setattr(http_front, name, noted(getattr(http_front, name)))
    monkeypatch.setattr(http_front, "encoded", noted(lambda *_: b"mp4"))
    ask(served, body={"prompt": "a cat", "files": ["mp4"]})
    served.triton.answer = streamed
    ask(served, body={"prompt": "a cat", "stream_frames": True})
    assert threads
    assert served.thread not in threads


def test_other_files_are_not_made(idle):
    code, _, sentence = refused(idle, body={"prompt": "a cat", "files": ["gif"]})
    assert code == 400
    assert "files[0]: this must be 'mp4'" in sentence


def test_the_callers_id_comes_back(served):
    found = events(ask(served, body={"prompt": "a cat", "id": "mine"})[2])
    assert {content["id"] for _, content in found} == {"mine"}
    assert served.triton.streams[0].id != "mine"


def test_who_does_not_read_holds_no_place_and_is_cut_off(served):
    async def big(inputs, context):
        frames = np.zeros((8, 1024, 1024, 3), np.uint8)
        made = RECORD | {"num_frames": 8, "height": 1024, "width": 1024}
        await context.write(event({"type": "result", "record": made}, frames))

    served.triton.answer = big
    with connection_to(served) as connection:
        connection.sendall(posting(b'{"prompt": "a"}'))
        wait_until(lambda: served.triton.streams != [])
        wait_until(lambda: served.gateway.admission.running == 0)
        wait_until(lambda: "RequestResponseCycle.run_asgi" not in served.run(tasks()))
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while chunk := connection.recv(1 << 20):
                received += len(chunk)
        assert received < 8 * 1024 * 1024 * 3


async def tasks():
    """What runs in the gateway's event loop: a request is there until it is answered or cut off."""
    return {task.get_coro().__qualname__ for task in asyncio.all_tasks()}


def test_json_has_the_inputs_of_the_model():
    assert set(ClipRequest.model_fields) == set(INPUTS)
    assert read_json(b'{"prompt": "a", "id": "x", "timeout_s": 2}').clip == ClipRequest(prompt="a")
    assert set(HttpRequest.model_fields) - set(INPUTS) == {"id", "timeout_s"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"a"',
        b"{",
        b"{}",
        b'{"prompt": 1}',
        b'{"prompt": null}',
        b'{"prompt": "a", "seed": "1"}',
        b'{"prompt": "a", "seed": 1.5}',
        b'{"prompt": "a", "seed": true}',
        b'{"prompt": "a", "stream_frames": 1}',
        b'{"prompt": "a", "seed": 1e400}',
        b'{"prompt": "a", "seed": 9223372036854775808}',
        b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}",
        b'{"prompt": "a", "num_frames": 2147483648}',
        b'{"prompt": "a", "guidance_scale": NaN}',
        b'{"prompt": "a", "guidance_scale": Infinity}',
        b'{"prompt": "a", "guidance_scale": -Infinity}',
        b'{"prompt": "a", "guidance_scale": 1e39}',
        b'{"prompt": "a", "guidance_scale": "7"}',
        b'{"prompt": "a", "policy": ["family"]}',
        b'{"prompt": "a", "policy": {"$ne": ""}}',
        b'{"prompt": "a", "model_name": "video_denoiser"}',
        b'{"prompt": "a", "parameters": {}}',
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "\xff"}',
        b'{"prompt": "a", "timeout_s": 0}',
        b'{"prompt": "a", "timeout_s": NaN}',
        b'{"prompt": "a", "id": "line\\nbreak"}',
        b'{"prompt": "' + b"a" * 20_000 + b'"}',
        b"[" * 50_000,
    ],
    ids=lambda body: repr(body[:50]),
)
def test_json_of_wrong_types_is_refused_by_field(idle, body):
    code, status, sentence = refused(idle, body=body)
    assert (code, status) == (400, "INVALID_ARGUMENT")
    assert len(sentence) < 300


def test_a_body_of_another_type_or_too_big_is_refused(idle):
    assert refused(idle, body={"prompt": "a"}, content="text/plain")[0] == 400
    big = b'{"prompt": "' + b"a" * 70_000
    assert refused(idle, body=big)[:2] == (413, "INVALID_ARGUMENT")


@pytest.mark.parametrize("path", [PATH, "/metrics", "/v2/status", "/v2/policies", REPORT])
@pytest.mark.parametrize("who", [None, "wrong", ""])
def test_who_is_not_known_gets_nothing(idle, path, who):
    body = {"prompt": "a"} if path == PATH else None
    code, headers, _ = ask(idle, path, body, who=who)
    assert code == 401
    assert headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/metrics", "/v2/status"])
def test_the_gateways_state_is_for_operators(idle, path):
    assert refused(idle, path)[:2] == (403, "PERMISSION_DENIED")
    assert ask(idle, path, who="admin")[0] == 200


@pytest.mark.parametrize(
    "body", [{"policy": "base"}, {"policy": "studio-x"}, {"revision": 1}, {"policy": ""}], ids=str
)
def test_what_is_not_permitted_is_refused(idle, body):
    assert refused(idle, body={"prompt": "a"} | body)[:2] == (403, "PERMISSION_DENIED")


@pytest.mark.parametrize(
    "path",
    [
        "//v2/models/text_to_video/generate_stream",
        "/v2//models/text_to_video/generate_stream",
        "/v2/models/text_to_video/generate_stream/",
        "/v2/models/text_to_video/../video_denoiser/infer",
        "/v2/models/text_to_video/%2e%2e/video_denoiser/infer",
        "/v2/models/video_denoiser/infer",
        "/v2/models/text_encoder/infer",
        "/v2/models/prompt_encoder/infer",
        "/v2/models/policy_family/versions/1/infer",
        "/v2/models/Text_To_Video/generate_stream",
        "/V2/models/text_to_video/generate_stream",
        "/v2/models/text_to_video/generate",
        "/v2/models/text_to_video/infer",
        "/v2/models/text_to_video/versions/1/generate_stream",
        "/v2/repository/index",
        "/v2/repository/models/text_to_video/load",
        "/v2/repository/models/text_to_video/unload",
        "/v2/systemsharedmemory/region/x/register",
        "/v2/cudasharedmemory/status",
        "/v2/trace/setting",
        "/v2/logging",
        "/v2/models/stats",
        "/v2/models/text_to_video/config",
        "/v2/models/text_to_video%00/generate_stream",
        "/metrics/..",
        "/%6Detrics%2f",
        "/index.html",
        "/page",
        "/page/",
        "/page.css",
        "/page/index.html",
        "/page/page.js/",
        "//page/page.js",
        "/page/../metrics",
        "/page/../settings.py",
        "/page/%2e%2e/http_front.py",
        "/page/..%2fsettings.py",
        "/v1/videos",
        "/v1/videos/video_x/content",
        "/v2/policies/family",
        "/v2/policies/family/report/",
        "/v2/policies/family/report.html",
        "/v2/policies/family/revision.json",
        "/v2/policies/family/2/report",
        "/v2/policies/../policies/family/report",
        "/v2/policies/family/../../report",
        "/v2/policies//report",
    ],
)
def test_paths_that_are_no_route_lead_nowhere(idle, path):
    calls = list(idle.triton.calls)
    assert refused(idle, path, {"prompt": "a"})[:2] == (404, "NOT_FOUND")
    assert refused(idle, path)[:2] == (404, "NOT_FOUND")
    assert idle.triton.calls == calls


def test_another_method_is_refused(idle):
    assert refused(idle, method="GET")[0] == 405
    for path in ("/livez", "/", "/page/page.js", REPORT):
        assert refused(idle, path, {"prompt": "a"})[0] == 405


def test_a_refusal_before_the_first_event_is_a_status(served):
    async def refuse(inputs, context):
        await context.write(error("INVALID_ARGUMENT: height must be a multiple of 8, not 3"))

    served.triton.answer = refuse
    code, status, sentence = refused(served, body={"prompt": "a", "height": 3})
    assert (code, status) == (400, "INVALID_ARGUMENT")
    assert sentence == "height must be a multiple of 8, not 3"


def test_a_refusal_after_it_is_an_event(served):
    served.triton.answer = failing
    code, _, body = ask(served, body={"prompt": "a"})
    assert code == 200
    assert [name for name, _ in events(body)] == ["progress", "error"]
    assert events(body)[-1][1]["status"] == "INTERNAL"


def test_leaving_cancels_in_triton_and_frees_the_place(served):
    served.triton.answer = stuck
    with connection_to(served) as connection:
        connection.sendall(posting(b'{"prompt": "a"}'))
        wait_until(lambda: served.triton.streams != [])
    assert served.triton.cancelled.wait(5)
    wait_until(lambda: served.gateway.admission.running == 0)


def test_a_busy_gateway_says_when_to_come_back(serve):
    served = serve(grpc=None, limits={"max_running": 1, "max_waiting": 0, "drain_timeout_s": 0.5})
    served.triton.answer = stuck
    threading.Thread(
        target=ask, args=(served,), kwargs={"body": {"prompt": "a"}}, daemon=True
    ).start()
    wait_until(lambda: served.gateway.admission.running == 1)
    code, headers, body = ask(served, body={"prompt": "b"})
    assert code == 429
    assert int(headers["retry-after"]) >= 1
    assert json.loads(body)["error"]["status"] == "RESOURCE_EXHAUSTED"


def test_a_deadline_ends_a_clip(served):
    served.triton.answer = stuck
    started = time.monotonic()
    code, status, sentence = refused(served, body={"prompt": "a", "timeout_s": 0.3})
    assert (code, status) == (504, "DEADLINE_EXCEEDED")
    assert sentence == "no clip within 0.3 s; allow more time, or ask for fewer steps or frames"
    assert time.monotonic() - started < 3
    assert served.triton.cancelled.wait(5)


@pytest.mark.parametrize(
    "sent",
    [
        b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        b"",
        posting(b"{", length=50),
    ],
    ids=["head", "nothing", "body"],
)
def test_who_sends_slowly_is_cut_off(idle, sent):
    started = time.monotonic()
    answer = raw(idle, sent)
    assert 0.5 < time.monotonic() - started < 8
    assert answer == b"" or b'"DEADLINE_EXCEEDED"' in answer


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
    ],
    ids=repr,
)
def test_what_is_no_http_gets_no_traceback(idle, sent):
    try:
        answer = raw(idle, sent[:40_000] + b"\r\nConnection: close\r\n\r\n")
    except ConnectionResetError:
        return
    assert b"Traceback" not in answer
    assert b" 500 " not in answer


def test_health_needs_no_token(idle):
    assert ask(idle, "/livez", who=None)[0] == 200
    code, _, body = ask(idle, "/readyz", who=None)
    assert (code, json.loads(body)) == (200, {"ready": True, "reason": "ready"})


@pytest.mark.parametrize("dead", ["text_to_video_alive", "prompt_encoder_alive"])
def test_a_dead_process_behind_a_model_is_noticed(served, dead):
    setattr(served.triton, dead, False)
    code, _, body = ask(served, "/readyz", who=None)
    assert code == 503
    model = dead.removesuffix("_alive")
    assert json.loads(body) == {"ready": False, "reason": f"the model {model} does not answer"}


def test_metrics_and_status_tell_what_happened(served):
    ask(served, body={"prompt": "a"})
    refused(served, body={"prompt": "a", "policy": "base"})
    text = ask(served, "/metrics", who="admin")[2].decode()
    ok = 'unsee_gateway_requests_total{front="http",outcome="ok",policy="family",tenant="kids"} 1.0'
    assert ok in text
    assert 'unsee_gateway_refusals_total{reason="permission",tenant="kids"} 1.0' in text
    assert 'unsee_gateway_clips_total{policy="family",revision="2",tenant="kids"} 1.0' in text
    assert 'unsee_gateway_stage_seconds_sum{stage="video_denoiser"} 0.7' in text
    assert 'unsee_gateway_running{tenant="kids"} 0.0' in text
    state = json.loads(ask(served, "/v2/status", who="admin")[2])
    assert state["ready"] is True
    assert state["models"] == {"text_to_video": True, "prompt_encoder": True}
    assert state["running"] == 0


def test_labels_do_not_grow_with_what_callers_send(served):
    for k in range(20):
        refused(served, body={"prompt": "a", "policy": f"p{k}"})
        refused(served, body={"prompt": "a"}, who=f"wrong-{k}")
    text = ask(served, "/metrics", who="admin")[2].decode()
    lines = [line for line in text.splitlines() if line.startswith("unsee_gateway_requests_total")]
    assert len(lines) == 2


def test_a_swap_is_seen(served):
    revision = 2

    async def answer(inputs, context):
        await context.write(result(inputs, revision=revision))

    served.triton.answer = answer
    ask(served, body={"prompt": "a"})
    revision = 3
    ask(served, body={"prompt": "a"})
    state = json.loads(ask(served, "/v2/status", who="admin")[2])
    assert state["incidents"][0]["what"] == "family: revision 2 -> 3"
    text = ask(served, "/metrics", who="admin")[2].decode()
    assert 'unsee_gateway_swaps_total{policy="family"} 1.0' in text


def test_policies_are_those_of_the_caller(served):
    told = json.loads(ask(served, "/v2/policies")[2])
    assert told == {
        "default_policy": "family",
        "policies": [{"policy": "family", "active_revision": None}],
    }


def test_a_body_that_is_no_request_is_accounted_for(served):
    refused(served, body=b"{")
    text = ask(served, "/metrics", who="admin")[2].decode()
    assert 'unsee_gateway_refusals_total{reason="request",tenant="kids"} 1.0' in text
