"""The TypeScript and the Java client as programs, against the real tritonserver and the gateway."""

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from wire_fakes import RECORD, decoded, error, event, in_parts, progress

from gateway_fakes import FRAMES, TOKENS, result
from serving_fakes import admin_client, settled_denoiser_rows
from unsee.client.client import Client

pytestmark = pytest.mark.process

STEPS = 12
EVERY_INPUT = {
    "negative_prompt": "",
    "policy": "family",
    "revision": 2,
    "num_inference_steps": 3,
    "guidance_scale": 7.5,
    "num_frames": 2,
    "height": 16,
    "width": 24,
    "scheduler": "DDIMScheduler",
    "acceleration": "fast",
    "stream_frames": True,
}
"""What the examples ask for beside a prompt and a seed."""


@pytest.mark.triton
def test_the_clip_is_that_of_the_python_client_byte_for_byte(program, server, tmp_path):
    url = server.settings.grpc_url
    options = ("--policy", "family", "--seed", "7", "--steps", "3", "--url", url)
    done = program.run("a cät", *options, "--out", "clip.npy", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [f"step {k} of 3" for k in (1, 2, 3)]
    assert done.stdout == "clip.npy\n"
    with Client(url, timeout_s=120.0) as client:
        clip = client.generate("a cät", policy="family", seed=7, num_inference_steps=3)
    frames = np.load(tmp_path / "clip.npy", allow_pickle=False)
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames, clip.frames)
    saved = json.loads((tmp_path / "clip.json").read_text(encoding="utf-8"))
    assert saved.keys() == clip.record.model_dump().keys()
    for own in ("seconds", "started_at"):
        del saved[own]
    assert saved == clip.record.model_dump(exclude={"seconds", "started_at"})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["clip.json", "clip.npy"]


@pytest.mark.triton
def test_a_refused_request_ends_with_its_status(program, server, tmp_path):
    url = server.settings.grpc_url
    done = program.run("a cat", "--policy", "famly", "--url", url, cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr.startswith("error: NOT_FOUND: there is no policy 'famly'")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.triton
def test_an_interrupt_cancels_the_work_on_the_server(program, server, tmp_path):
    url = server.settings.grpc_url
    options = ("--policy", "base", "--steps", str(STEPS), "--url", url)
    with admin_client(url) as operator:
        before = settled_denoiser_rows(operator)
        code, told = program.interrupted("a cat", *options, after="step 1 ", cwd=tmp_path)
        done = settled_denoiser_rows(operator) - before
    assert code == 130
    assert told.splitlines()[-1] == f"error: CANCELLED: the request to {url} was cancelled"
    assert 2 <= done < 2 * STEPS
    assert not list(tmp_path.iterdir())


def test_every_input_reaches_the_server_with_its_type(program, served, tmp_path):
    async def in_two_parts(inputs: dict[str, Any], context: Any) -> None:
        for answer in in_parts(RECORD | {"prompt": inputs["prompt"]}, FRAMES):
            await context.write(answer)

    served.triton.answer = in_two_parts
    done = program.run(served.settings.triton, cwd=tmp_path, every_input=True)
    parts = [f"part {k} of 2: 1 16 16 3\n" for k in (0, 1)]
    same = int(FRAMES.astype(int).sum())
    expected = "".join([*parts, f"2 16 16 3 {same} ein Kätzchen 🐈\n"])
    assert (done.stdout, done.stderr) == (expected, "")
    (request,) = served.triton.streams
    assert decoded(request) == EVERY_INPUT | {"prompt": "ein Kätzchen 🐈", "seed": 2**53 - 1}


def test_a_busy_gateway_says_when_to_ask_again(program, served, tmp_path):
    async def busy(inputs: dict[str, Any], context: Any) -> None:
        await context.write(error("UNAVAILABLE: the server is busy"))

    served.triton.answer = busy
    token = {"UNSEE_TOKEN": TOKENS["studio"]}
    done = program.run(served.addresses.grpc, cwd=tmp_path, every_input=True, **token)
    status, retry_after_ms, sentence = done.stdout.strip().split(" ", 2)
    assert (status, sentence) == ("UNAVAILABLE", "the server is busy")
    assert int(retry_after_ms) > 0


def test_a_token_travels_over_tls(program, serve, certificate, tmp_path):
    file, key, authority = certificate
    served = serve(tls={"certificate": file, "key": key})
    url = ("--url", served.addresses.grpc)
    known = {"UNSEE_TOKEN": TOKENS["kids"], "UNSEE_CA_CERTIFICATE": str(authority)}
    done = program.run("a cat", *url, cwd=tmp_path, **known)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "clip.npy"), FRAMES)
    assert json.loads((tmp_path / "clip.json").read_text())["policy"] == "family"
    unencrypted = program.run("a cat", *url, cwd=tmp_path)
    assert unencrypted.returncode == 3
    assert unencrypted.stderr.startswith("error: UNAVAILABLE: no server answers")


@pytest.mark.parametrize(
    ("token", "arguments", "told"),
    [
        ("unsee_nobody", (), "UNAUTHENTICATED: "),
        (TOKENS["kids"], ("--url", "clips.example:443"), "INVALID_ARGUMENT: the token would"),
        ("two words", (), "INVALID_ARGUMENT: the token must be printable"),
    ],
)
def test_what_the_gateway_or_the_client_does_not_allow(
    program, served, tmp_path, token, arguments, told
):
    options = ("--url", served.addresses.grpc, *arguments)
    done = program.run("a cat", *options, cwd=tmp_path, UNSEE_TOKEN=token)
    assert done.returncode == 3
    assert done.stderr.startswith(f"error: {told}")
    assert not served.triton.streams


@pytest.mark.parametrize("seed", ["1.5", "9007199254740992", "-1", "many"])
def test_a_value_that_does_not_fit_is_refused_by_typescript(typescript, served, tmp_path, seed):
    options = ("--url", served.settings.triton, f"--seed={seed}")
    done = typescript.run("a cat", *options, cwd=tmp_path)
    assert done.returncode == 3
    told = "error: INVALID_ARGUMENT: seed must be a whole number from 0 to 9007199254740991, not "
    assert done.stderr.startswith(told)
    assert not served.triton.streams


def test_javas_example_takes_every_input_as_an_option(java, served, tmp_path):
    words = ["--negative-prompt", "", "--policy", "family", "--revision", "2", "--seed", "7"]
    words += ["--steps", "3", "--guidance-scale", "7.5", "--num-frames", "2", "--height", "16"]
    words += ["--width", "24", "--scheduler", "DDIMScheduler", "--acceleration", "fast"]
    words += ["--stream-frames", "true"]
    done = java.run("a cat", *words, "--url", served.settings.triton, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (request,) = served.triton.streams
    assert decoded(request) == EVERY_INPUT | {"prompt": "a cat", "seed": 7}


@pytest.mark.parametrize(
    ("seed", "code", "told"),
    [
        ("-1", 3, "INVALID_ARGUMENT: seed must be 0 or more, not -1"),
        ("many", 2, '--seed many: For input string: "many"'),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_java(java, served, tmp_path, seed, code, told):
    options = ("--url", served.settings.triton, "--seed", seed)
    done = java.run("a cat", *options, cwd=tmp_path)
    assert (done.returncode, done.stderr.splitlines()[0]) == (code, f"error: {told}")
    assert not served.triton.streams


@pytest.mark.parametrize("url", ["127.0.0.1:1", "nobody.invalid:9001"])
def test_a_server_that_is_not_there_is_one_sentence(program, tmp_path, url):
    done = program.run("a cat", "--url", url, cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr.startswith(f"error: UNAVAILABLE: no server answers at {url}")
    assert len(done.stderr.splitlines()) == 1


async def foreign(inputs: dict[str, Any], context: Any) -> None:
    await context.write(event({"type": "result"}))


async def incomplete(inputs: dict[str, Any], context: Any) -> None:
    record = {name: value for name, value in RECORD.items() if name != "fps"}
    await context.write(event({"type": "result", "record": record}, FRAMES))


async def cut(inputs: dict[str, Any], context: Any) -> None:
    answer = result(inputs)
    answer.infer_response.raw_output_contents[0] = b"\0"
    await context.write(answer)


async def without_a_clip(inputs: dict[str, Any], context: Any) -> None:
    await context.write(progress(1))


async def without_a_status(inputs: dict[str, Any], context: Any) -> None:
    await context.write(error("Request for unknown model: 'text_to_video' is not found"))


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (foreign, "INTERNAL: the answer is not one of text_to_video: "),
        (incomplete, "INTERNAL: the answer is not one of text_to_video: the field fps is missing"),
        (cut, "INTERNAL: the answer is not one of text_to_video: the frames"),
        (without_a_clip, "INTERNAL: 127.0.0.1:PORT ended the stream without a clip"),
        (without_a_status, "UNKNOWN: Request for unknown model: 'text_to_video' is not found"),
    ],
)
def test_an_answer_that_is_none_is_an_error(program, served, tmp_path, answer, told):
    served.triton.answer = answer
    url = served.settings.triton
    done = program.run("a cat", "--url", url, cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith(f"error: {told.replace('127.0.0.1:PORT', url)}")
    assert not list(tmp_path.iterdir())


def test_the_stream_is_read_to_its_end(program, served, tmp_path):
    left_early: list[bool] = []

    async def lingering(inputs: dict[str, Any], context: Any) -> None:
        await context.write(result(inputs))
        try:
            await asyncio.sleep(0.3)
        except asyncio.CancelledError:
            left_early.append(True)
            raise

    served.triton.answer = lingering
    done = program.run("a cat", "--url", served.settings.triton, cwd=tmp_path)
    assert (done.returncode, left_early) == (0, [])


def test_a_deadline_ends_a_silent_request(program, served, tmp_path):
    async def silent(inputs: dict[str, Any], context: Any) -> None:
        await asyncio.sleep(60)

    served.triton.answer = silent
    url = served.settings.triton
    done = program.run("a cat", "--url", url, "--timeout", "1", cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr == f"error: DEADLINE_EXCEEDED: no clip from {url} within 1000 ms\n"
    assert served.triton.cancelled.wait(10)


def test_a_gateway_that_gives_up_first_says_itself_why(program, serve, tmp_path):
    async def silent(inputs: dict[str, Any], context: Any) -> None:
        await asyncio.sleep(60)

    served = serve(http=None, limits={"max_deadline_s": 0.5, "drain_timeout_s": 0.5})
    served.triton.answer = silent
    url = ("--url", served.addresses.grpc, "--timeout", "30")
    done = program.run("a cat", *url, cwd=tmp_path, UNSEE_TOKEN=TOKENS["kids"])
    assert done.returncode == 3
    told = "error: DEADLINE_EXCEEDED: no clip within 0.5 s; that is the most that anybody may have"
    assert done.stderr.startswith(told)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "error: give one PROMPT"),
        (("a cat", "--out", "clip.mp4"), "error: --out must end in .npy"),
        (("a cat", "--colour", "red"), "--colour"),
    ],
)
def test_wrong_usage_is_explained(program, tmp_path, arguments, told):
    done = program.run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr.splitlines()[0]
    assert "usage: " in done.stderr
