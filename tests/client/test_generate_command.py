"""`unsee generate` from the outside: what it writes, prints and returns."""

import json

import grpc
import numpy as np
import pytest

from unsee.client.command import run


def generate(server, *arguments):
    return run(["generate", "Blimbo walking", "--url", server.url, *map(str, arguments)])


def test_it_writes_every_output_and_prints_the_files(server, tmp_path, capsys, expected_frames):
    mp4, npy = tmp_path / "clip.mp4", tmp_path / "clip.npy"
    assert generate(server, "-o", mp4, "-o", npy) == 0
    printed = capsys.readouterr()
    assert printed.out.split() == [str(mp4), str(npy)]
    assert "step 3 of 3" in printed.err
    assert "policy family, revision 2; seed 7; 3 steps of DDIMScheduler; 1.0 s" in printed.err
    assert mp4.stat().st_size > 0
    np.testing.assert_array_equal(np.load(npy), expected_frames)


def test_the_default_output_is_clip_mp4_here(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert generate(server) == 0
    assert (tmp_path / "clip.mp4").exists()


def test_json_is_one_object_with_the_record(server, tmp_path, capsys):
    assert generate(server, "--json", "-o", tmp_path / "clip.npy") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["record"]["prompt"] == "Blimbo walking"
    assert printed["files"] == [str(tmp_path / "clip.npy")]


def test_options_reach_the_server_under_its_names(server, tmp_path):
    options = ["--policy", "family", "--revision", 2, "--seed", 7, "--negative-prompt", "blur"]
    options += ["--steps", 9, "--guidance-scale", 2.5, "--frames", 5, "--height", 64]
    options += ["--width", 72, "--scheduler", "DDIMScheduler", "--acceleration", "fast"]
    options += ["-o", tmp_path / "clip.npy"]
    assert generate(server, *options) == 0
    assert server.requests == [
        {
            "prompt": "Blimbo walking",
            "policy": "family",
            "revision": 2,
            "seed": 7,
            "negative_prompt": "blur",
            "num_inference_steps": 9,
            "guidance_scale": 2.5,
            "num_frames": 5,
            "height": 64,
            "width": 72,
            "scheduler": "DDIMScheduler",
            "acceleration": "fast",
        }
    ]


def test_the_summary_names_an_acceleration(server, fake, tmp_path, capsys):
    record = fake.RECORD | {"acceleration": "fast"}
    answer = fake.event({"type": "result", "record": record}, fake.frames())
    server.answer = lambda inputs, context: iter([answer])
    assert generate(server, "-o", tmp_path / "clip.npy") == 0
    assert "3 steps of DDIMScheduler, acceleration fast; 1.0 s" in capsys.readouterr().err


def test_a_wrong_suffix_is_told_before_the_server_works(server, tmp_path, capsys):
    assert generate(server, "-o", tmp_path / "clip.avi") == 2
    assert "clip.avi" in capsys.readouterr().err
    assert server.requests == []


def test_a_rejection_is_one_sentence_and_exit_3(server, tmp_path, capsys):
    def answer(inputs, context):
        context.abort(grpc.StatusCode.NOT_FOUND, 'there is no policy "famly"; it has: base, family')
        yield

    server.answer = answer
    assert generate(server, "-o", tmp_path / "clip.npy") == 3
    printed = capsys.readouterr()
    assert printed.err == 'error: there is no policy "famly"; it has: base, family\n'
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


def test_no_server_is_one_sentence_and_exit_3(tmp_path, capsys):
    assert run(["generate", "x", "--url", "127.0.0.1:9", "-o", str(tmp_path / "clip.npy")]) == 3
    error = capsys.readouterr().err
    assert error.startswith("error: no server answers at 127.0.0.1:9; start one with: unsee serve")
    assert error.count("\n") == 1


@pytest.mark.parametrize("timeout", ["0", "-1", "soon"])
def test_a_senseless_timeout_is_refused(server, timeout):
    assert generate(server, "--timeout", timeout) == 2
