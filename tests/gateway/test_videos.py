"""/v1/videos: the official client of OpenAI's Videos API, and every way round its limits."""

import asyncio
import contextlib
import gc
import json
import time
import tracemalloc
import weakref

import gateway_calls
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_fakes import decoded, error

from gateway_fakes import FRAMES, TOKENS, failing, stuck, tenants, wait_until
from record_fakes import base_record
from unsee.gateway.callers.refusal import Refusal
from unsee.gateway.callers.settings import Settings
from unsee.gateway.observe import account
from unsee.gateway.openai import videos as gateway_videos
from unsee.gateway.openai.video_request import VideoRequest, read_form, read_json
from unsee.repository.base import read_base

openai = pytest.importorskip("openai", reason="the openai client is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")

PATH = "/v1/videos"
LIMITS = {"drain_timeout_s": 1.0, "read_timeout_s": 1.0}


@pytest.fixture
def start(serve, repository):
    def start(*, who=None, **limits):
        return serve(
            grpc=None,
            repository=str(repository),
            openai_videos=True,
            tenants=tenants(**(who or {})),
            limits=LIMITS | limits,
        )

    return start


@pytest.fixture
def served(start):
    return start()


@pytest.fixture(scope="module")
def idle(serve_all, repository_of_all):
    """For requests that never reach Triton."""
    options = {"grpc": None, "openai_videos": True, "limits": LIMITS | {"drain_timeout_s": 0.5}}
    served = serve_all(repository=str(repository_of_all), **options)
    yield served
    assert served.triton.streams == []


@pytest.fixture
def client_of():
    """Official clients, closed at the end: (served, tenant) -> client."""
    clients = []

    def client(served, who="studio"):
        made = openai.OpenAI(
            base_url=f"http://{served.addresses.http}/v1",
            api_key=TOKENS.get(who, who),
            max_retries=0,
            timeout=20,
        )
        clients.append(made)
        return made.videos

    yield client
    for made in clients:
        made.close()


@pytest.fixture
def videos(served, client_of):
    return client_of(served)


def completed(videos, **asked):
    video = videos.create(**({"prompt": "a cat"} | asked))
    while video.status in ("queued", "in_progress"):
        time.sleep(0.02)
        video = videos.retrieve(video.id)
    assert video.status == "completed", video.error
    return video


@pytest.mark.process
def test_a_video_is_made_and_downloaded(served, videos, tmp_path):
    video = videos.create_and_poll(
        prompt="a cat",
        model="text_to_video:family",
        extra_body={"seed": 7, "guidance_scale": 3.5, "acceleration": "fast"},
        poll_interval_ms=20,
    )
    assert (video.status, video.progress, video.object) == ("completed", 100, "video")
    assert (video.model, video.prompt) == ("text_to_video:family", "a cat")
    assert (video.seconds, video.size) == ("0.25", "16x16")
    assert video.created_at <= video.completed_at < video.expires_at
    content = videos.download_content(video.id)
    assert content.response.headers["content-type"] == "video/mp4"
    assert b"ftyp" in content.content[:16]
    content.write_to_file(tmp_path / "video.mp4")
    shown = frames_of(tmp_path / "video.mp4")
    assert len(shown) == len(FRAMES)
    inputs = decoded(served.triton.streams[0])
    assert inputs == {
        "prompt": "a cat",
        "policy": "family",
        "seed": 7,
        "guidance_scale": 3.5,
        "acceleration": "fast",
    }
    text = served.gateway.metrics.text().decode()  # as of any clip
    ok = 'requests_total{front="http",outcome="ok",policy="family",tenant="studio"} 1.0'
    assert ok in text
    assert 'clips_total{policy="family",revision="2",tenant="studio"} 1.0' in text
    assert 'outcome="cancelled"' not in text


def frames_of(file):
    import imageio_ffmpeg

    frames = imageio_ffmpeg.read_frames(str(file))
    next(frames)
    return list(frames)


def test_downloads_that_nobody_takes_need_no_memory_each(served, videos, monkeypatch):
    content = bytes(20_000_000)
    monkeypatch.setattr(gateway_videos, "encoded", lambda *_: content)
    path = f"{PATH}/{completed(videos).id}/content"
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKENS['studio']}"
    with contextlib.ExitStack() as stack:
        stack.callback(tracemalloc.stop)
        tracemalloc.start()
        for _ in range(10):
            connection = stack.enter_context(gateway_calls.connection_to(served))
            connection.sendall(f"{head}\r\n\r\n".encode())
            assert connection.recv(15) == b"HTTP/1.1 200 OK"
        assert tracemalloc.get_traced_memory()[0] < len(content)
    assert gateway_calls.ask(served, path, who="studio")[2] == content


@pytest.mark.parametrize(
    ("seconds", "num_frames"), [(2, 17), (0.5, 5), (0.1, 1), (1.6, 13), (4, 29), (1.9, 13)]
)
def test_seconds_become_the_nearest_number_of_frames_that_the_base_makes(
    tmp_path, seconds, num_frames
):
    file = tmp_path / "base.json"
    record = base_record(latents={"frames_per_latent": 4}, limits={"num_frames": [1, 32]})
    file.write_text(json.dumps(record))
    wanted = VideoRequest(prompt="a cat", seconds=seconds).wanted(read_base(file))
    assert wanted.request.num_frames == num_frames
    assert wanted.seconds == num_frames / 8


def test_a_video_that_is_fetched_when_it_is_finished_streams_no_frames(tmp_path):
    file = tmp_path / "base.json"
    file.write_text(json.dumps(base_record()))
    with pytest.raises(Refusal, match="stream_frames is for generate_stream"):
        VideoRequest(prompt="a cat", stream_frames=True).wanted(read_base(file))
    wanted = VideoRequest(prompt="a cat", stream_frames=False).wanted(read_base(file))
    assert wanted.request.stream_frames is False


@pytest.mark.process
def test_seconds_and_size_become_frames_and_pixels(served, videos):
    video = completed(videos, model="family", seconds="3", size="64x32")
    assert (video.seconds, video.size) == ("3", "64x32")
    inputs = decoded(served.triton.streams[0])
    assert (inputs["num_frames"], inputs["width"], inputs["height"]) == (24, 64, 32)


@pytest.mark.process
def test_json_is_taken_as_well(served):
    body = {"prompt": "a cat", "model": "text_to_video", "seconds": 2, "seed": 3}
    code, _, told = ask(served, "POST", PATH, body)
    assert code == 200
    assert told["model"] == "text_to_video"
    code, _, told = ask(served, "POST", PATH, body | {"seconds": "2"})
    assert told["seconds"] == "2"


def ask(served, method, path, body=None, who="studio", content="application/json"):
    """(status, headers, JSON) of a request without the client."""
    code, headers, told = gateway_calls.ask(
        served, path, body, who=who, method=method, content=content
    )
    return code, headers, json.loads(told)


def test_progress_is_told_in_percent_and_deleting_what_runs_cancels_it(served, videos):
    served.triton.answer = stuck
    video = videos.create(prompt="a cat", model="family")
    wait_until(lambda: videos.retrieve(video.id).progress == 33)
    assert videos.retrieve(video.id).status == "in_progress"
    with pytest.raises(openai.BadRequestError, match="not ready: in_progress, 33 %"):
        videos.download_content(video.id)
    assert served.gateway.admission.running == 1
    videos.delete(video.id)
    assert served.triton.cancelled.wait(5)
    assert served.gateway.admission.running == 0


@pytest.mark.process
def test_a_list_comes_in_pages(served, videos, client_of):
    made = [completed(videos, model="family", prompt=f"cat {k}").id for k in range(5)]
    first = videos.list(limit=2)
    assert [video.id for video in first.data] == made[:2:-1]
    assert first.has_more
    assert [video.id for video in videos.list(limit=2)] == made[::-1]
    assert [video.id for video in videos.list(limit=3, order="asc")] == made
    assert [video.id for video in videos.list(after=made[3], order="asc")] == made[4:]
    assert list(client_of(served, "kids").list()) == []
    for query in ({"limit": 0}, {"limit": 101}, {"after": "video_x"}, {"order": "up"}):
        with pytest.raises(openai.BadRequestError):
            videos.list(**query)


@pytest.mark.process
def test_what_is_anothers_or_deleted_does_not_exist(served, videos, client_of):
    video = completed(videos, model="family")
    other = client_of(served, "kids")
    for call in (other.retrieve, other.download_content, other.delete):
        with pytest.raises(openai.NotFoundError):
            call(video.id)
    with pytest.raises(openai.BadRequestError):
        other.list(after=video.id)
    assert videos.retrieve(video.id).status == "completed"
    told = videos.delete(video.id)
    assert (told.id, told.deleted, told.object) == (video.id, True, "video.deleted")
    for call in (videos.retrieve, videos.download_content, videos.delete):
        with pytest.raises(openai.NotFoundError, match="no video of that id"):
            call(video.id)


@pytest.mark.process
def test_too_many_videos_are_refused(start, client_of):
    served = start(max_videos=2)
    videos = client_of(served)
    kept = [completed(videos, model="family") for _ in range(2)]
    with pytest.raises(openai.RateLimitError, match="2 videos of this caller are kept") as caught:
        videos.create(prompt="a cat", model="family")
    assert int(caught.value.response.headers["retry-after"]) >= 1
    completed(client_of(served, "kids"))
    videos.delete(kept[0].id)
    completed(videos, model="family")


@pytest.mark.process
def test_too_many_bytes_are_refused(start, client_of):
    served = start(max_video_bytes=1)
    videos = client_of(served)
    video = videos.create_and_poll(prompt="a cat", model="family", poll_interval_ms=20)
    assert video.status == "failed"
    assert "delete some" in video.error.message
    with pytest.raises(openai.BadRequestError, match="failed"):
        videos.download_content(video.id)


def test_what_is_deleted_counts_until_nobody_takes_it(start, client_of, monkeypatch):
    content = bytes(20_000_000)  # more than the system keeps of it for a caller who takes nothing
    monkeypatch.setattr(gateway_videos, "encoded", lambda *_: content)
    served = start(max_video_bytes=30_000_000, read_timeout_s=60.0)
    videos = client_of(served)
    video = completed(videos, model="family").id
    head = f"GET {PATH}/{video}/content HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
    with gateway_calls.connection_to(served) as connection:
        connection.sendall(f"{head}{TOKENS['studio']}\r\n\r\n".encode())
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        videos.delete(video)
        failed = videos.create_and_poll(prompt="a cat", model="family", poll_interval_ms=20)
        assert failed.status == "failed"
        assert "20000000 are kept" in failed.error.message

    def is_made():
        gc.collect()
        made = videos.create_and_poll(prompt="a cat", model="family", poll_interval_ms=20)
        videos.delete(made.id)
        return made.status == "completed"

    wait_until(is_made)


def test_a_video_that_found_no_room_holds_no_frames(start, client_of, monkeypatch):
    frames = []

    def too_large(clip_frames, *_):
        frames.append(weakref.ref(clip_frames))
        return bytes(10)

    monkeypatch.setattr(gateway_videos, "encoded", too_large)
    videos = client_of(start(max_video_bytes=1))
    made = videos.create(prompt="a cat", model="family")
    wait_until(lambda: videos.retrieve(made.id).status == "failed")

    def are_gone():
        gc.collect()
        return frames[0]() is None

    wait_until(are_gone)


def test_a_video_that_failed_by_a_fault_holds_no_frames(start, client_of, monkeypatch):
    served, frames = start(), []

    def fail(request, record, *_):
        held = np.zeros(1)  # as a frame of the stack holds a clip
        frames.append(weakref.ref(held))
        raise RuntimeError("a fault of the gateway")

    monkeypatch.setattr(served.gateway.ledger, "made", fail)
    monkeypatch.setattr(account.LOGGER, "disabled", True)  # pytest keeps what is logged
    monkeypatch.setattr(gateway_videos, "SETTLE_S", 0.0)
    videos = client_of(served)
    made = videos.create(prompt="a cat", model="family")
    wait_until(lambda: videos.retrieve(made.id).status == "failed")

    def are_gone():
        gc.collect()
        return frames[0]() is None

    wait_until(are_gone)


def test_a_full_queue_is_told_at_once(start, client_of):
    served = start(max_running=1, max_waiting=0)
    served.triton.answer = stuck
    videos = client_of(served)
    videos.create(prompt="a cat", model="family")
    with pytest.raises(openai.RateLimitError, match="busy"):
        videos.create(prompt="another", model="family")
    assert len(videos.list().data) == 1


@pytest.mark.process
def test_a_video_is_forgotten_when_its_time_is_over(start, client_of):
    served = start(video_max_age_s=0.5)
    videos = client_of(served)
    made = videos.create(prompt="a cat", model="family").id
    wait_until(lambda: made not in {video.id for video in videos.list()})


def test_what_the_model_refuses_is_the_answer(served, videos):
    async def refuse(inputs, context):
        await context.write(error("INVALID_ARGUMENT: num_inference_steps must be between 1 and 50"))

    served.triton.answer = refuse
    with pytest.raises(openai.BadRequestError, match="between 1 and 50") as caught:
        videos.create(prompt="a cat", model="family", extra_body={"num_inference_steps": 99})
    assert caught.value.type == "invalid_request_error"
    assert videos.list().data == []


def test_a_fault_later_is_a_failed_video(served, videos):
    served.triton.answer = failing
    video = videos.create_and_poll(prompt="a cat", model="family", poll_interval_ms=20)
    assert (video.status, video.error.code) == ("failed", "server_error")
    assert video.error.message == "the server failed; its log says why"
    assert video.completed_at is None


def test_a_fault_of_the_gateway_itself_is_a_failed_video(served, videos, monkeypatch):
    def full_disk(*_):
        raise OSError("No space left on device: /tmp/secret")

    monkeypatch.setattr(gateway_videos, "encoded", full_disk)
    video = videos.create_and_poll(prompt="a cat", model="family", poll_interval_ms=20)
    assert (video.status, video.error.code) == ("failed", "server_error")
    assert "secret" not in video.error.message


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"seconds": "12"}, "seconds must be between 0.125 and 4, not 12"),
        ({"seconds": "x"}, "seconds"),
        ({"seconds": "-1"}, "seconds"),
        ({"seconds": "nan"}, "seconds"),
        ({"size": "1280x720"}, "size cannot be 1280x720: the width must be between 16 and 64"),
        ({"size": "24x16"}, "multiples of 16"),
        ({"size": "big"}, "size"),
        ({"extra_body": {"seed": "many"}}, "seed"),
        ({"extra_body": {"fps": 12}}, "fps: this field is not known"),
        ({"seconds": "1", "extra_body": {"num_frames": 8}}, "seconds or num_frames, not both"),
        ({"size": "16x16", "extra_body": {"width": 16}}, "size or width, not both"),
        ({"extra_body": {"policy": "base"}}, "different policies"),
        ({"input_reference": b"image"}, "input_reference"),
        ({"prompt": "a" * 20_000}, "prompt"),
    ],
    ids=str,
)
def test_what_the_base_cannot_do_is_refused_clearly(idle, client_of, asked, sentence):
    with pytest.raises(openai.BadRequestError, match=sentence) as caught:
        client_of(idle).create(**({"prompt": "a cat", "model": "family"} | asked))
    told = caught.value.body
    assert told.keys() == {"message", "type", "param", "code"}
    assert "Traceback" not in told["message"]


@pytest.mark.parametrize("model", ["base", "text_to_video:studio-x", "sora-2", "text_to_video:"])
def test_another_policy_is_not_permitted(idle, client_of, model):
    with pytest.raises(openai.PermissionDeniedError, match="may not ask for"):
        client_of(idle, "kids").create(prompt="a cat", model=model)


@pytest.mark.process
@pytest.mark.parametrize("model", [None, "text_to_video"])
def test_without_a_policy_it_is_the_tenants_own(served, client_of, model):
    completed(client_of(served, "kids"), **({} if model is None else {"model": model}))
    assert decoded(served.triton.streams[0])["policy"] == "family"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", PATH),
        ("GET", PATH),
        ("GET", f"{PATH}/video_x"),
        ("DELETE", f"{PATH}/video_x"),
        ("GET", f"{PATH}/video_x/content"),
    ],
)
@pytest.mark.parametrize("who", [None, "wrong"])
def test_who_is_not_known_gets_nothing(idle, method, path, who):
    body = {"prompt": "a"} if method == "POST" else None
    code, headers, told = ask(idle, method, path, body, who=who)
    assert (code, told["error"]["code"]) == (401, "invalid_api_key")
    assert headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/v1/models", 404),
        ("POST", f"{PATH}/", 404),
        ("POST", f"{PATH}/edits", 405),
        ("POST", f"{PATH}/video_x/remix", 404),
        ("GET", f"{PATH}/video_x/content/", 404),
        ("GET", f"{PATH}/../videos", 404),
        ("GET", f"{PATH}/%2e%2e/content", 404),
        ("GET", f"{PATH}/..%2f..%2fetc", 404),
        ("PUT", PATH, 405),
    ],
)
def test_what_is_no_route_does_not_exist(idle, method, path, code):
    assert ask(idle, method, path, {"prompt": "a"} if method == "POST" else None)[0] == code


def test_nothing_is_there_unless_it_is_switched_on(serve):
    served = serve(grpc=None, limits=LIMITS)
    assert ask(served, "POST", PATH, {"prompt": "a"})[0] == 404


def form(*fields):
    """A form by hand: (name, value) or (name, value, file name)."""
    parts = []
    for name, value, *file in fields:
        named = f'; filename="{file[0]}"' if file else ""
        parts.append(
            f'--b\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n{value}\r\n'
        )
    return ("".join(parts) + "--b--\r\n").encode()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (form(("prompt", "a"), ("prompt", "b")), 400),
        (form(("prompt", "a"), ("file", "x", "x.png")), 400),
        (form(*[(f"f{k}", "x") for k in range(40)]), 400),
        (form(("prompt", "a" * 70_000)), 413),
        (form(("prompt", "a?")).replace(b"?", b"\xff"), 400),
        (b"--b\r\n", 400),
        (b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n", 400),
        (b"\x00" * 100, 400),
        (b"", 400),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else str(value),
)
def test_a_form_that_is_none_is_refused(idle, body, code):
    content = "multipart/form-data; boundary=b"
    got, _, told = ask(idle, "POST", PATH, body, content=content, who="kids")
    assert got == code
    assert "Traceback" not in told["error"]["message"]


PARTS = st.sampled_from(
    [b"--b", b"--b--", b"\r\n", b"\r", b": ", b'Content-Disposition: form-data; name="prompt"']
)


@given(st.lists(PARTS | st.binary(max_size=12), max_size=20).map(b"".join))
def test_no_bytes_are_more_than_refused(body):
    with contextlib.suppress(Refusal):
        asyncio.run(read_form("multipart/form-data; boundary=b", body))
    with contextlib.suppress(Refusal):
        read_json(body)


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=40))
def test_no_content_type_is_more_than_refused(boundary):
    with contextlib.suppress(Refusal):
        asyncio.run(read_form(f"multipart/form-data; boundary={boundary}", form(("prompt", "a"))))


@pytest.mark.parametrize("charset", ["undefined", "punycode", "idna", "utf-7", "zlib", "latin-1"])
def test_a_form_in_another_charset_is_refused(idle, charset):
    content = f"multipart/form-data; boundary=b; charset={charset}"
    code, _, told = ask(idle, "POST", PATH, form(("prompt", "a")), content=content)
    assert (code, told["error"]["code"]) == (400, "invalid_value")


def test_a_form_may_say_that_it_is_in_utf_8():
    content = "multipart/form-data; boundary=b; charset=UTF-8"
    assert asyncio.run(read_form(content, form(("prompt", "ä")))).prompt == "ä"


@pytest.mark.parametrize(
    "content", ["multipart/form-data", "text/plain", "application/x-www-form-urlencoded", ""]
)
def test_another_content_type_is_refused(idle, content):
    assert ask(idle, "POST", PATH, form(("prompt", "a")), content=content)[0] == 400


def test_going_down_cancels_what_nobody_can_fetch(served, videos):
    served.triton.answer = stuck
    videos.create(prompt="a cat", model="family")
    wait_until(lambda: served.gateway.admission.running == 1)
    served.drain()
    assert served.triton.cancelled.is_set()
    served.drain = lambda: None  # done


def test_the_switch_needs_what_it_needs(tmp_path):
    content = {"tenants": tenants(), "openai_videos": True}
    for wrong, sentence in (
        ({}, "needs repository"),
        ({"repository": tmp_path, "http": None}, "off"),
    ):
        with pytest.raises(ValueError, match=sentence):
            Settings.model_validate(content | wrong)
