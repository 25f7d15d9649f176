"""`unsee generate` from the outside: what it writes, prints and returns."""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path, PurePath

import grpc
import numpy as np
import pytest
from PIL import Image

from unsee.cli import clip_batch
from unsee.cli.clip_batch import planned_clips
from unsee.cli.main import run
from unsee.core.errors import FileNotWritable
from unsee.media.clip import Clip


def generate(server, *arguments):
    return run(["generate", "Blimbo walking", "--url", server.url, *map(str, arguments)])


@pytest.mark.process
def test_it_writes_every_output_and_prints_the_files(server, tmp_path, capsys, expected_frames):
    mp4, npy = tmp_path / "clip.mp4", tmp_path / "clip.npy"
    assert generate(server, "-o", mp4, "-o", npy) == 0
    printed = capsys.readouterr()
    assert printed.out.split() == [str(mp4), str(npy)]
    assert "generating 3/3" in printed.err
    assert "policy family, revision 2; seed 7; 3 steps of DDIMScheduler; 1.0 s" in printed.err
    assert mp4.stat().st_size > 0
    np.testing.assert_array_equal(np.load(npy), expected_frames)


@pytest.mark.process
def test_the_default_output_is_clip_mp4_here(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert generate(server) == 0
    assert (tmp_path / "clip.mp4").exists()


def test_json_is_one_object_with_the_record(server, tmp_path, capsys):
    assert generate(server, "--json", "-o", tmp_path / "clip.npy") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["record"]["prompt"] == "Blimbo walking"
    assert printed["files"] == [str(tmp_path / "clip.npy")]
    assert printed.keys() == {"record", "files"}


def test_options_reach_the_server_under_its_names(server, tmp_path):
    options = ["--policy", "family", "--revision", 2, "--seed", 7, "--negative-prompt", "blur"]
    options += ["--steps", 9, "--guidance-scale", 2.5, "--frames", 5, "--height", 64]
    options += ["--width", 72, "--scheduler", "DDIMScheduler", "--acceleration", "fast"]
    options += ["--stream-frames", "-o", tmp_path / "clip.npy"]
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
            "stream_frames": True,
        }
    ]


def test_the_summary_names_an_acceleration(server, fake, tmp_path, capsys):
    record = fake.RECORD | {"acceleration": "fast"}
    answer = fake.event({"type": "result", "record": record}, fake.frames())
    server.answer = lambda inputs, context: iter([answer])
    assert generate(server, "-o", tmp_path / "clip.npy") == 0
    assert "3 steps of DDIMScheduler, acceleration fast; 1.0 s" in capsys.readouterr().err


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


@pytest.fixture
def echoing(server, fake):
    """The server tells prompt, policy and seed back; it refuses a yeti and goes with a ghost."""

    def answer(inputs, context):
        if "yeti" in inputs["prompt"]:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "there is no yeti")
        if "ghost" in inputs["prompt"]:
            return
        told = {name: inputs[name] for name in ("prompt", "policy", "seed") if name in inputs}
        yield fake.event({"type": "progress", "step": 1, "num_inference_steps": 3})
        yield fake.event({"type": "result", "record": fake.RECORD | told}, fake.frames())

    server.answer = answer
    return server


@pytest.fixture
def prompts(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("# of today\na cat\n\n  a dog \na bird\n")
    return file


def many(server, *arguments):
    return run(["generate", "--url", server.url, *map(str, arguments)])


def test_many_prompts_are_numbered_files(echoing, prompts, tmp_path, capsys):
    assert many(echoing, "--prompts", prompts, "-o", tmp_path / "{n}.npy") == 0
    printed = capsys.readouterr()
    assert printed.out.split() == [str(tmp_path / f"{n}.npy") for n in (1, 2, 3)]
    assert "clips 3/3" in printed.err
    assert {request["prompt"] for request in echoing.requests} == {"a cat", "a dog", "a bird"}


def test_a_mark_before_the_first_prompt_and_comments_are_no_prompts(echoing, tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("a cat\n  # an afterthought\n", encoding="utf-8-sig")
    assert many(echoing, "--prompts", file, "-o", tmp_path / "{n}.npy") == 0
    assert [request["prompt"] for request in echoing.requests] == ["a cat"]


def test_planning_many_prompts_does_not_compare_each_file_with_each(monkeypatch):
    compared = []
    equal = PurePath.__eq__
    monkeypatch.setattr(
        PurePath, "__eq__", lambda one, other: compared.append(1) or equal(one, other)
    )
    planned = planned_clips([f"a cat {n}" for n in range(300)], [], 7, [Path("{n}.mp4")])
    assert (len(planned), len(compared)) == (300, 0)


def test_several_policies_share_a_drawn_seed_and_a_sheet(echoing, tmp_path, capsys):
    policies = ["--policy", "base", "--policy", "family"]
    sheet = tmp_path / "compared.png"
    names = ["-o", tmp_path / "clip-{policy}.npy", "--sheet", sheet, "--in-flight", "1", "--json"]
    assert many(echoing, "a cat", *policies, *names) == 0
    made = json.loads(capsys.readouterr().out)
    first, second = (clip["record"] for clip in made["clips"])
    assert (first["policy"], second["policy"]) == ("base", "family")
    assert first["seed"] == second["seed"]
    assert [clip["files"] for clip in made["clips"]] == [
        [str(tmp_path / f"clip-{policy}.npy")] for policy in ("base", "family")
    ]
    assert (made["sheet"], made["failures"]) == (str(sheet), [])
    assert made.keys() == {"clips", "failures", "sheet"}
    with Image.open(sheet) as picture:
        assert picture.width > picture.height
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.process
def test_the_names_of_several_say_what_tells_them_apart(echoing, prompts, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    policies = ["--policy", "base", "--policy", "family"]
    assert many(echoing, "--prompts", prompts, *policies) == 0
    names = {path.name for path in tmp_path.glob("*.mp4")}
    assert names == {f"clip-{n}-{policy}.mp4" for n in (1, 2, 3) for policy in ("base", "family")}


def test_a_file_can_be_named_after_the_seed(echoing, prompts, tmp_path, capsys):
    name = tmp_path / "{n}-{seed}.npy"
    assert many(echoing, "a cat", "--seed", "7", "-o", tmp_path / "cat-{seed}.npy") == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "cat-7.npy")]
    assert many(echoing, "--prompts", prompts, "--policy", "family", "-o", name, "--json") == 0
    made = json.loads(capsys.readouterr().out)["clips"]
    seeds = [clip["record"]["seed"] for clip in made]
    assert [clip["files"] for clip in made] == [
        [str(tmp_path / f"{n}-{seed}.npy")] for n, seed in enumerate(seeds, start=1)
    ]


def test_a_refused_clip_does_not_stop_the_others(echoing, tmp_path, capsys):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cat\na yeti\na dog\n")
    names = ["--policy", "family", "-o", tmp_path / "{n}.npy", "--json"]
    assert many(echoing, "--prompts", prompts, *names) == 3
    printed = capsys.readouterr()
    made = json.loads(printed.out)
    assert [clip["record"]["prompt"] for clip in made["clips"]] == ["a cat", "a dog"]
    assert made["failures"] == [
        {"prompt": "a yeti", "policy": "family", "error": "there is no yeti"}
    ]
    assert 'no clip of "a yeti" under family: there is no yeti\n' in printed.err
    assert printed.err.endswith("error: 1 of 3 clips were not made\n")
    assert not (tmp_path / "2.npy").exists()


def test_a_sheet_without_a_whole_row_is_not_drawn(echoing, tmp_path, capsys):
    names = ["--policy", "base", "--policy", "family", "--sheet", tmp_path / "s.png"]
    assert many(echoing, "a yeti", *names, "-o", tmp_path / "{policy}.npy") == 3
    assert "was not drawn" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_sheet_names_every_revision_and_keeps_what_it_shows(
    server, fake, prompts, tmp_path, monkeypatch
):
    def answer(inputs, context):
        told = {"prompt": inputs["prompt"], "revision": 3 if "bird" in inputs["prompt"] else 2}
        frames = np.zeros((9, 8, 8, 3), np.uint8)
        frames[:, 0, 0, 0] = range(9)
        yield fake.event({"type": "result", "record": fake.RECORD | told}, frames)

    drawn = {}
    server.answer = answer
    monkeypatch.setattr(
        clip_batch,
        "before_after_sheet",
        lambda rows, **words: drawn.update(words, rows=rows) or Image.new("RGB", (2, 2)),
    )
    names = ["-o", tmp_path / "{n}.npy", "--sheet", tmp_path / "s.png"]
    assert many(server, "--prompts", prompts, *names) == 0
    assert drawn["title"] == "family"
    assert drawn["headings"] == ["family, revision 2 and family, revision 3"]
    shown = [clip[:, 0, 0, 0].tolist() for row in drawn["rows"] for clip in row.clips]
    assert shown == [[0, 3, 5, 8]] * 3


def test_what_came_of_the_others_is_said_when_the_server_goes(echoing, tmp_path, capsys):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cat\na yeti\na ghost\na dog\n")
    names = ["--policy", "family", "-o", tmp_path / "{n}.npy", "--in-flight", "1"]
    assert many(echoing, "--prompts", prompts, *names) == 3
    printed = capsys.readouterr()
    assert printed.out.split() == [str(tmp_path / "1.npy")]
    assert "1 of 4 clips are made and stay\n" in printed.err
    assert printed.err.count('no clip of "a yeti" under family: there is no yeti\n') == 1
    assert "ended the stream without a clip" in printed.err.splitlines()[-1]


def test_a_file_is_named_though_the_next_could_not_be_written(
    server, tmp_path, capsys, monkeypatch
):
    save = Clip.save

    def full(clip, path, **options):
        if path.suffix == ".webp":
            raise FileNotWritable(f"cannot write {path}: no space")
        return save(clip, path, **options)

    monkeypatch.setattr(Clip, "save", full)
    written, other = tmp_path / "clip.npy", tmp_path / "clip.webp"
    assert generate(server, "-o", written, "-o", other, "--json") == 1
    assert json.loads(capsys.readouterr().out)["files"] == [str(written)]


@pytest.mark.parametrize("length", [300, 5000])
def test_a_long_prompt_of_several_sentences_is_no_file(server, tmp_path, length):
    prompt = ("A cat walks. It sits down. " * length)[:length] + "!"
    assert many(server, prompt, "-o", tmp_path / "clip.npy") == 0
    assert [request["prompt"] for request in server.requests] == [prompt]


def test_a_missing_ffmpeg_is_told_before_the_server_works(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "nowhere"))
    assert many(server, "a cat", "-o", tmp_path / "clip.mp4") == 2
    assert "nowhere cannot be run; correct IMAGEIO_FFMPEG_EXE\n" in capsys.readouterr().err
    assert server.requests == []


def test_a_server_that_goes_ends_many_with_one_sentence(prompts, tmp_path, capsys):
    gone = ["--url", "127.0.0.1:9", "--prompts", str(prompts), "-o", str(tmp_path / "{n}.npy")]
    assert run(["generate", *gone]) == 3
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--sign-key", "k.pem"], "--sign-certificate and --sign-key go together"),
        (["--sign-key", "k.pem", "--sign-certificate", "c.pem"], "cannot read c.pem"),
        (
            ["--sign-key", "k.pem", "--sign-certificate", "c.pem", "-o", "c.npy"],
            "a .npy file cannot be signed",
        ),
    ],
)
def test_what_cannot_be_signed_is_told_before_the_server_works(server, capsys, options, words):
    pytest.importorskip("c2pa")
    assert many(server, "a cat", *options) == 2
    assert words in capsys.readouterr().err
    assert server.requests == []


@pytest.mark.process
def test_ctrl_c_in_a_process_is_130_without_a_traceback(server, tmp_path):
    asked, over = threading.Event(), threading.Event()

    def answer(inputs, context):
        context.add_callback(over.set)
        asked.set()
        over.wait(60)
        yield from ()

    server.answer = answer
    arguments = ["generate", "a cat", "--url", server.url, "-o", str(tmp_path / "clip.npy")]
    process = subprocess.Popen(
        [sys.executable, "-m", "unsee.cli.main", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert asked.wait(60)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=30)
    assert process.returncode == 130, error
    assert error.strip() == "interrupted"
    assert out == ""
    assert list(tmp_path.iterdir()) == []
