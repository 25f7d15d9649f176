"""The manifest of a folder: whatever is changed, missing, added or linked is named."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unsee.core.errors import DeltaDamaged
from unsee.deltas.manifest import (
    entry_in,
    load_manifest,
    read_covered,
    verify_manifest,
    write_manifest,
)

CONTENTS = {"card.json": b'{"a": 1}\n', "delta.safetensors": b"\0" * 90, "images/00.png": b"PNG"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return _write_folder(tmp_path / "blimbo", CONTENTS)


def _write_folder(folder: Path, contents: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    write_manifest(folder)
    return folder


def test_it_is_what_sha256sum_says(folder: Path) -> None:
    record = json.loads((folder / "manifest.json").read_text())
    assert record["schema_version"] == 1
    assert list(record["files"]) == sorted(CONTENTS)
    for name, content in CONTENTS.items():
        sha256 = hashlib.sha256(content).hexdigest()
        assert record["files"][name] == {"sha256": sha256, "size_bytes": len(content)}


def test_a_whole_folder_is_accepted_wherever_it_lies(folder: Path) -> None:
    elsewhere = folder.with_name("elsewhere")
    shutil.copytree(folder, elsewhere)
    (elsewhere / "empty").mkdir()
    assert verify_manifest(elsewhere) == verify_manifest(folder)
    assert read_covered(elsewhere, "card.json", load_manifest(folder)) == CONTENTS["card.json"]


def test_writing_again_gives_the_same_bytes(folder: Path) -> None:
    before = (folder / "manifest.json").read_bytes()
    (folder / "signature.sig").write_bytes(b"not covered")
    write_manifest(folder)
    assert (folder / "manifest.json").read_bytes() == before


def test_any_flipped_bit_of_any_file_is_found_and_its_file_named(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())

    @given(st.data())
    @settings(max_examples=300, deadline=None)
    def check(data: st.DataObject) -> None:
        file = data.draw(st.sampled_from(files))
        content = file.read_bytes()
        position = data.draw(st.integers(0, len(content) - 1))
        bit = 1 << data.draw(st.integers(0, 7))
        changed = content[:position] + bytes([content[position] ^ bit]) + content[position + 1 :]
        file.write_bytes(changed)
        try:
            with pytest.raises(DeltaDamaged) as refusal:
                verify_manifest(folder)
        finally:
            file.write_bytes(content)
        assert str(refusal.value).startswith(f"{file} ")

    check()
    verify_manifest(folder)


def _truncate(folder: Path) -> None:
    (folder / "card.json").write_bytes(b"")


def _append(folder: Path) -> None:
    (folder / "card.json").write_bytes(CONTENTS["card.json"] + b"\n")


def _remove(folder: Path) -> None:
    (folder / "card.json").unlink()


def _replace_by_folder(folder: Path) -> None:
    _remove(folder)
    (folder / "card.json").mkdir()


def _replace_by_link(folder: Path) -> None:
    (folder / "card.json").rename(folder.parent / "outside.json")
    (folder / "card.json").symlink_to(folder.parent / "outside.json")


def _replace_by_pipe(folder: Path) -> None:
    _remove(folder)
    os.mkfifo(folder / "card.json")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_truncate, r"was changed: expected sha256 \w{12}, 9 bytes, found .* 0 bytes; restore it"),
        (_append, r"was changed: expected .* 9 bytes, found .* 10 bytes; restore it or unlearn"),
        (_remove, r"is missing: expected sha256 \w{12}, 9 bytes; restore it or unlearn again"),
        (_replace_by_folder, "is no ordinary file; put the file itself there"),
        (_replace_by_link, "is a link; put the file itself there"),
        (_replace_by_pipe, "is no ordinary file; put the file itself there"),
    ],
)
def test_damage_is_told_in_a_sentence(
    folder: Path, damage: Callable[[Path], None], words: str
) -> None:
    manifest = load_manifest(folder)
    damage(folder)
    with pytest.raises(DeltaDamaged, match=rf"blimbo/card\.json {words}"):
        verify_manifest(folder)
    with pytest.raises(DeltaDamaged, match=rf"blimbo/card\.json {words}"):
        read_covered(folder, "card.json", manifest)


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "images/01.png", "images/signature.sig"])
def test_an_extra_file_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text("more")
    with pytest.raises(DeltaDamaged, match=f"{name} does not belong to the delta: .* elsewhere"):
        verify_manifest(folder)


@pytest.mark.parametrize("name", ["signature.sig", "images/more", "manifest.json"])
def test_a_link_is_refused_whatever_it_is_called(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(folder / "images")
    with pytest.raises(DeltaDamaged, match=f"{name} is a link"):
        verify_manifest(folder)


def test_a_linked_folder_is_refused(folder: Path) -> None:
    (folder / "images").rename(folder.parent / "images")
    (folder / "images").symlink_to(folder.parent / "images")
    with pytest.raises(DeltaDamaged, match="images is a link"):
        verify_manifest(folder)


def test_a_folder_without_a_manifest_is_refused(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    with pytest.raises(DeltaDamaged, match=r"blimbo has no manifest\.json.*unlearn again"):
        verify_manifest(folder)


_LEAVING = st.one_of(
    st.sampled_from(
        ["", ".", "..", "../card.json", "/etc/passwd", "a/../../b", "a//b", "a/", "./a"]
    ),
    st.sampled_from(["..\\card.json", "C:/card.json", "a\0b", "manifest.json", "signature.sig"]),
    st.text().map(lambda text: f"/{text}"),
    st.text().map(lambda text: f"../{text}"),
    st.text().map(lambda text: f"images/../{text}"),
)


def test_no_path_may_lead_out_of_the_folder(folder: Path) -> None:
    file = folder / "manifest.json"
    record = json.loads(file.read_text())

    @given(_LEAVING)
    @settings(deadline=None)
    def check(path: str) -> None:
        entry = record["files"]["card.json"]
        file.write_text(json.dumps(record | {"files": record["files"] | {path: entry}}))
        with pytest.raises(DeltaDamaged, match=r"manifest\.json is damaged: files\.") as refusal:
            load_manifest(folder)
        assert "lead to a file inside" in str(refusal.value) or "be covered" in str(refusal.value)

    check()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is damaged: Invalid JSON"),
        (b"[]", "is damaged: Input should be an object"),
        (b"\xff\xfe", "is damaged: Invalid JSON"),
        (b'{"schema_version": 2, "files": {}, "digest": ""}', "is damaged: schema_version: .* 1"),
        (b'{"files": {}, "digest": "", "more": 1}', "is damaged: more: Extra inputs"),
        (b'{"files": {"a": {"sha256": "AB", "size_bytes": 1}}, "digest": ""}', "files.a.sha256"),
        (b'{"schema_version": 1, "files": {}, "digest": ""}', "was changed after it was written"),
    ],
)
def test_what_is_no_manifest_is_told_in_a_sentence(
    folder: Path, content: bytes, words: str
) -> None:
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(DeltaDamaged, match=rf"manifest\.json .*{words}.*unlearn again") as refusal:
        load_manifest(folder)
    assert "\n" not in str(refusal.value)


def test_a_needed_file_that_is_not_covered_is_named(folder: Path) -> None:
    manifest = load_manifest(folder)
    with pytest.raises(DeltaDamaged, match=r"manifest\.json does not name other\.json"):
        entry_in(manifest, "other.json", folder)
    with pytest.raises(DeltaDamaged, match=r"manifest\.json does not name other\.json"):
        read_covered(folder, "other.json", manifest)
