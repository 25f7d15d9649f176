"""The record in a clip's file: written, read back, and shown by other programs."""

import json
import shutil
import struct
import subprocess
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unsee.client.testing import gradient_clip
from unsee.core.errors import InputError
from unsee.media.metadata import TRAINED_MEDIA, as_ffmetadata, read_record
from unsee.media.video_file import WRITERS

PROMPT = 'Kätzchen 🌼 = ; # \\ "quoted"\nsecond line & <b>\x00'
CHEAP = [suffix for suffix in WRITERS if suffix != ".mp4"]  # no process of its own


def clip_of(prompt, **record):
    return gradient_clip(
        {"prompt": prompt, "policy": "family", "num_frames": 2, "height": 8, "width": 8} | record
    )


@pytest.mark.process
@pytest.mark.parametrize("suffix", WRITERS)
def test_the_record_comes_back(tmp_path, suffix):
    clip = clip_of(PROMPT, seed=7, edit_digest="sha256:aa", watermark="none")
    path = clip.save(tmp_path / f"clip{suffix}")
    assert read_record(path) == clip.record
    assert read_record(str(path)).model_dump()["watermark"] == "none"


@pytest.mark.parametrize("suffix", CHEAP)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(prompt=st.text(st.characters(exclude_categories=["Cs"]), max_size=600))
def test_any_prompt_comes_back(tmp_path, suffix, prompt):
    clip = clip_of(prompt)
    assert read_record(clip.save(tmp_path / f"clip{suffix}")).prompt == prompt


@pytest.mark.process
@pytest.mark.skipif(not shutil.which("ffprobe"), reason="ffprobe (Debian: ffmpeg) is not installed")
def test_ffprobe_shows_it(tmp_path):
    path = clip_of("a cat").save(tmp_path / "clip.mp4")
    command = ["ffprobe", "-v", "error", "-show_entries", "format_tags", "-of", "json", str(path)]
    shown = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    tags = shown["format"]["tags"]
    assert tags["title"] == "a cat"
    assert "policy family, revision 1" in tags["description"]
    assert json.loads(tags["comment"])["prompt"] == "a cat"
    assert tags["creation_time"].startswith("2026-01-01")


@pytest.mark.skipif(
    not shutil.which("exiftool"),
    reason="exiftool (Debian: libimage-exiftool-perl) is not installed",
)
@pytest.mark.process
@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_exiftool_shows_it(tmp_path, suffix):
    path = clip_of("ein Kätzchen").save(tmp_path / f"clip{suffix}")
    command = ["exiftool", "-j", "-validate", "-warning", "-a", str(path)]
    tags = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)[0]
    assert "Warning" not in tags
    shown = subprocess.run(["exiftool", "-j", str(path)], capture_output=True, check=True).stdout
    tags = json.loads(shown)[0]
    assert tags["Title"] == tags["ImageDescription"] == "ein Kätzchen"
    assert tags["Software"] == tags["CreatorTool"]
    assert tags["DigitalSourceType"] == TRAINED_MEDIA


@pytest.mark.process
@pytest.mark.parametrize("suffix", WRITERS)
def test_a_file_of_another_kind_is_one_sentence(tmp_path, suffix):
    path = tmp_path / f"clip{suffix}"
    path.write_bytes(b"hello")
    with pytest.raises(InputError) as caught:
        read_record(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_picture_without_a_record(tmp_path):
    from PIL import Image

    path = tmp_path / "clip.png"
    Image.new("RGB", (4, 4)).save(path)
    with pytest.raises(InputError, match="carries no record"):
        read_record(path)


def chunk(kind, content):
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def png(side, *chunks):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    content = b"".join((header, *chunks, chunk(b"IDAT", b""), chunk(b"IEND", b"")))
    return b"\x89PNG\r\n\x1a\n" + content


def xmp(packet, *, packed=False):
    content = zlib.compress(packet) if packed else packet
    return chunk(b"iTXt", b"XML:com.adobe.xmp\0" + bytes([packed, 0, 0, 0]) + content)


@pytest.mark.parametrize(
    "content",
    [
        png(4, xmp(b"x" * 2_000_000, packed=True)),
        png(4, xmp(b'<?xml version="1.0" encoding="shift_jis"?><a/>')),
        png(4, xmp(b'<?xml version="1.0" encoding="latin-99"?><a/>')),
    ],
    ids=["huge text", "encoding", "no encoding"],
)
def test_a_picture_that_was_made_to_do_harm_is_one_sentence(tmp_path, content):
    path = tmp_path / "clip.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot read"):
        read_record(path)


def test_a_record_is_read_from_a_sheet_that_pillow_takes_for_an_attack(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 10)
    clip = clip_of("a cat")
    assert read_record(clip.save(tmp_path / "clip.png")) == clip.record


def test_a_record_that_is_no_text_is_one_sentence(tmp_path):
    path = clip_of("a cat").save(tmp_path / "clip.npy")
    path.with_name("clip.npy.json").write_bytes(b"\xff")
    with pytest.raises(InputError, match="cannot read"):
        read_record(path)


@pytest.mark.process
def test_what_is_called_mp4_is_read_as_one_alone(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(as_ffmetadata(clip_of("a cat").record))
    with pytest.raises(InputError, match="cannot read"):
        read_record(path)


@pytest.mark.parametrize("text", ["{}", "[1]", "not json", "\x00", '{"prompt": 3}'])
def test_a_record_that_was_changed(tmp_path, text):
    path = clip_of("a cat").save(tmp_path / "clip.npy")
    path.with_name("clip.npy.json").write_text(text)
    with pytest.raises(InputError, match="was it changed"):
        read_record(path)


@pytest.mark.parametrize(("name", "message"), [("clip.avi", "one of"), ("gone.mp4", "No such")])
def test_what_cannot_be_read(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        read_record(tmp_path / name)
