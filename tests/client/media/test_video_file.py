"""Clips saved and read back in every format, and the ways in which saving can fail."""

import re
import tempfile

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from unsee.core.errors import InputError
from unsee.core.record import GenerationRecord
from unsee.media.clip import Clip
from unsee.media.metadata import read_record


@pytest.fixture
def clip(fake):
    return Clip(fake.frames(), GenerationRecord.model_validate(fake.RECORD))


@pytest.fixture(autouse=True)
def readers_do_not_fork(monkeypatch):
    """imageio's reader forks otherwise, which can hang beside the gRPC threads of other tests."""
    monkeypatch.setenv("IMAGEIO_FFMPEG_NO_PREVENT_SIGINT", "1")


def in_the_middle(frames):
    """The centre of the left and of the right half, away from the edge where chroma mixes."""
    height, width = frames.shape[1:3]
    return frames[:, height // 2, [width // 4, 3 * width // 4]].astype(int)


@pytest.mark.process
def test_mp4_has_all_frames_at_player_size_in_the_right_colours(clip, tmp_path):
    path = clip.save(tmp_path / "clip.mp4")
    video = iio.imread(path, plugin="FFMPEG")
    assert video.shape == (4, 256, 384, 3)
    assert np.abs(in_the_middle(video) - in_the_middle(clip.frames)).max() <= 12
    assert iio.immeta(path, plugin="FFMPEG")["fps"] == 8


@pytest.mark.process
def test_mp4_of_odd_sides_is_padded_not_refused(fake, clip, tmp_path):
    odd = Clip(fake.frames(3, 257, 301), clip.record)
    assert iio.imread(odd.save(tmp_path / "odd.mp4"), plugin="FFMPEG").shape == (3, 258, 302, 3)


@pytest.mark.process
def test_mp4_needs_no_room_elsewhere(clip, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    clip.save(tmp_path / "clip.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_without_ffmpeg_an_mp4_is_neither_written_nor_read(clip, tmp_path, monkeypatch):
    def none():
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", none)
    (tmp_path / "old.mp4").write_bytes(b"")
    for use in (
        lambda: clip.save(tmp_path / "clip.mp4"),
        lambda: read_record(tmp_path / "old.mp4"),
    ):
        with pytest.raises(InputError, match="needs ffmpeg, and there is none; install it"):
            use()


@pytest.mark.process
def test_mp4_of_one_frame(fake, clip, tmp_path):
    single = Clip(fake.frames(1), clip.record)
    assert len(iio.imread(single.save(tmp_path / "one.mp4"), plugin="FFMPEG")) == 1


@pytest.mark.process
def test_mp4_of_a_name_that_looks_like_an_address(clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = clip.save("a:b.mp4")
    assert path.stat().st_size > 1000
    assert read_record(path) == clip.record


def test_gif_has_all_frames(clip, tmp_path):
    with Image.open(clip.save(tmp_path / "clip.gif")) as image:
        assert image.n_frames == 4
        assert image.info["duration"] == 120  # 1/8 s in GIF's hundredths of a second
        assert image.size == (384, 256)


def test_webp_is_exact(clip, tmp_path):
    with Image.open(clip.save(tmp_path / "clip.webp")) as image:
        assert image.n_frames == 4
        for k, frame in enumerate(clip.frames):
            image.seek(k)
            image.load()
            assert image.info["duration"] == 125
            np.testing.assert_array_equal(np.asarray(image.convert("RGB")), frame)


def test_png_is_a_contact_sheet_of_every_frame(clip, tmp_path):
    with Image.open(clip.save(tmp_path / "clip.PNG")) as image:
        sheet = np.asarray(image)
    assert sheet.shape == (6 + 48 + 6, 6 + 4 * (72 + 6), 3)
    for k, frame in enumerate(clip.frames):
        left = 6 + k * 78
        np.testing.assert_array_equal(sheet[6:54:3, left : left + 72 : 3], frame)


@pytest.mark.parametrize("name", ["clip.npy", "clip.NPY"])
def test_npy_is_exact(clip, tmp_path, name):
    path = clip.save(tmp_path / name)
    np.testing.assert_array_equal(np.load(path), clip.frames)
    assert read_record(path) == clip.record
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, f"{name}.json"]


def test_missing_folders_are_made_and_nothing_else_is_left(clip, tmp_path):
    clip.save(tmp_path / "a" / "b" / "clip.npy")
    names = sorted(p.name for p in (tmp_path / "a" / "b").iterdir())
    assert names == ["clip.npy", "clip.npy.json"]


@pytest.mark.parametrize("name", ["clip.avi", "clip", "clip.mp4.txt"])
def test_an_unknown_suffix_names_the_known_ones(clip, tmp_path, name):
    with pytest.raises(InputError, match=r"\.mp4, \.gif, \.png, \.npy"):
        clip.save(tmp_path / name)


def test_a_file_where_the_folder_should_be(clip, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match="taken"):
        clip.save(tmp_path / "taken" / "clip.mp4")


def test_a_folder_where_the_file_should_be(clip, tmp_path):
    (tmp_path / "clip.mp4").mkdir()
    with pytest.raises(InputError, match="it is a folder"):
        clip.save(tmp_path / "clip.mp4")


def test_a_failed_save_keeps_the_old_file_and_leaves_no_other(clip, tmp_path, monkeypatch):
    path = clip.save(tmp_path / "clip.npy")
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full_disk)
    with pytest.raises(InputError, match="No space left"):
        clip.save(path)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.process
@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("echo '[out#0/mp4 @ 0x55d0] no such codec' >&2; exit 1", "exit code 1 (no such codec)"),
        ("exit 3", "the video encoder ended with exit code 3 (it gave no reason)"),
        ("kill -9 $$", "ended by the signal 9; is there memory left?"),
        (
            "echo '[out#0/mp4 @ 0x55d0] Error muxing a packet' >&2;"
            "echo '[out#0/mp4 @ 0x55d0] Error writing trailer: No space left on device' >&2;"
            "echo 'Conversion failed!' >&2; exit 228",
            "clip.mp4: No space left on device (",
        ),
    ],
)
def test_why_ffmpeg_failed_is_one_plain_line(clip, tmp_path, monkeypatch, script, sentence):
    encoder = tmp_path / "ffmpeg"
    encoder.write_text(f"#!/bin/sh\ncat > /dev/null\n{script}\n")
    encoder.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(encoder))
    with pytest.raises(InputError, match=re.escape(sentence)) as raised:
        clip.save(tmp_path / "out" / "clip.mp4")
    assert "0x55d0" not in str(raised.value)
    assert "\n" not in str(raised.value)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.process
def test_no_prompt_is_on_the_command_line_of_ffmpeg(clip, tmp_path, monkeypatch):
    encoder = tmp_path / "ffmpeg"
    encoder.write_text('#!/bin/sh\ncat > /dev/null\necho "$@" | tr "\\n" " " >&2\nexit 1\n')
    encoder.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(encoder))
    told = []
    monkeypatch.setattr(
        "unsee.media.video_file._encoder_failed",
        lambda code, words: told.append(words) or OSError("failed"),
    )
    with pytest.raises(InputError):
        clip.save(tmp_path / "clip.mp4")
    assert "libx264" in told[0]
    assert clip.record.prompt not in told[0]


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((2, 4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.uint8),
        np.zeros((2, 4, 4, 4), np.uint8),
        np.zeros((0, 4, 4, 3), np.uint8),
    ],
)
def test_other_arrays_are_no_clip(clip, frames):
    with pytest.raises(InputError, match="uint8 frames"):
        Clip(frames, clip.record)
