"""The digests in a card: whatever is changed, missing, added or linked is named."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from delta_fakes import assert_flipped_bits_are_found, write_manifest

from unsee.core.errors import DeltaDamaged
from unsee.deltas.files import read_card, verify_files, write_card

CONTENTS = {"delta.safetensors": b"\0" * 90, "images/00.png": b"PNG"}
FIELDS = {"concept": "Bílimbo", "losses": [1.5, 2e-5]}
DAMAGED = "images/00.png"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return _write_folder(tmp_path / "blimbo")


def _write_folder(folder: Path) -> Path:
    for name, content in CONTENTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    write_card(folder, FIELDS)
    return folder


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A folder as version 0.1 wrote it: the digests are in `manifest.json`."""
    folder = _write_folder(tmp_path / "older")
    (folder / "card.json").write_text(json.dumps(FIELDS))
    write_manifest(folder)
    return folder


def _sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_the_digests_are_what_sha256sum_says(folder: Path) -> None:
    fields, files = read_card(folder)
    assert fields == FIELDS
    assert files == {name: _sha256(content) for name, content in CONTENTS.items()}


def test_a_whole_folder_is_accepted_wherever_it_lies(folder: Path) -> None:
    elsewhere = folder.with_name("elsewhere")
    shutil.copytree(folder, elsewhere)
    (elsewhere / "empty").mkdir()
    (elsewhere / "signature.sig").write_bytes(b"not covered")
    assert verify_files(elsewhere) == verify_files(folder)


def test_writing_again_gives_the_same_bytes(folder: Path) -> None:
    before = (folder / "card.json").read_bytes()
    (folder / "signature.sig").write_bytes(b"not covered")
    write_card(folder, FIELDS)
    assert (folder / "card.json").read_bytes() == before


@pytest.mark.parametrize("written_by", ["folder", "older"])
def test_any_flipped_bit_of_any_file_is_found_and_its_file_named(
    request: pytest.FixtureRequest, written_by: str
) -> None:
    folder: Path = request.getfixturevalue(written_by)
    assert_flipped_bits_are_found(folder, verify_files, examples=200)
    assert read_card(folder)[0] == FIELDS


def _truncate(folder: Path) -> None:
    (folder / DAMAGED).write_bytes(b"")


def _append(folder: Path) -> None:
    (folder / DAMAGED).write_bytes(b"PNG\n")


def _remove(folder: Path) -> None:
    (folder / DAMAGED).unlink()


def _replace_by_link(folder: Path) -> None:
    (folder / DAMAGED).rename(folder.parent / "outside.png")
    (folder / DAMAGED).symlink_to(folder.parent / "outside.png")


def _replace_by_pipe(folder: Path) -> None:
    _remove(folder)
    os.mkfifo(folder / DAMAGED)


@pytest.mark.parametrize("written_by", ["folder", "older"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_truncate, r"was changed: its SHA-256 is \w{12}…, the card says \w{12}…; restore it"),
        (_append, r"was changed: .*; restore it or unlearn again"),
        (_remove, r"is missing; restore it or unlearn again"),
        (_replace_by_link, "is a link; put the file itself there"),
        (_replace_by_pipe, "is no ordinary file; put the file itself there"),
    ],
)
def test_damage_is_named_in_a_sentence(
    request: pytest.FixtureRequest, written_by: str, damage: Callable[[Path], None], words: str
) -> None:
    folder: Path = request.getfixturevalue(written_by)
    damage(folder)
    with pytest.raises(DeltaDamaged, match=rf"images/00\.png {words}"):
        verify_files(folder)


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "images/01.png", "images/signature.sig"])
def test_an_extra_file_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text("more")
    with pytest.raises(DeltaDamaged, match=f"{name} does not belong to the delta: .* elsewhere"):
        verify_files(folder)


@pytest.mark.parametrize("name", ["signature.sig", "images/more", "card.json", "images"])
def test_a_link_is_refused_whatever_it_is_called(folder: Path, name: str) -> None:
    if (folder / name).exists():
        (folder / name).rename(folder.parent / "moved")
    (folder / name).symlink_to(folder.parent / "moved")
    with pytest.raises(DeltaDamaged, match=f"{name} is a link"):
        verify_files(folder)


def test_a_card_may_name_files_outside_but_none_is_opened(folder: Path) -> None:
    outside = folder.parent / "outside"
    outside.write_bytes(b"PNG")
    card = (folder / "card.json").read_text()
    (folder / DAMAGED).unlink()
    assert card.count('"images/00.png"') == 1
    end = '  "digest": "sha256:'
    forged = card.replace('"images/00.png"', '"../outside"').split(end)[0]
    own = _sha256((forged + end + '"\n}\n').encode())
    (folder / "card.json").write_text(f'{forged}  "digest": "{own}"\n}}\n')
    with pytest.raises(DeltaDamaged, match=r"\.\./outside is missing"):
        verify_files(folder)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b"{}\n", b'{"digest": "sha256:"}'])
def test_what_is_no_card_is_refused_in_a_sentence(folder: Path, content: bytes) -> None:
    (folder / "card.json").write_bytes(content)
    with pytest.raises(DeltaDamaged, match=r"card\.json was changed.*unlearn again") as refusal:
        read_card(folder)
    assert "\n" not in str(refusal.value)


NO_JSON_OF_A_CARD = {
    "no json": "x",
    "deep": '"a": ' + "[" * 100_000 + "]" * 100_000 + ",",
    "digits": f'"files": {{}}, "a": {"9" * 5000},',
}


@pytest.mark.parametrize("content", [*NO_JSON_OF_A_CARD.values(), "", '"files": ["a"],'])
def test_a_card_with_a_right_digest_over_nonsense_is_refused(folder: Path, content: str) -> None:
    start = f'{{\n{content}\n  "digest": "sha256:'
    own = _sha256(f'{start}"\n}}\n'.encode()).removeprefix("sha256:")
    (folder / "card.json").write_text(f'{start}{own}"\n}}\n')
    with pytest.raises(DeltaDamaged, match=r"card\.json is no card"):
        verify_files(folder)


@pytest.mark.parametrize("content", [f"{{{one}" for one in NO_JSON_OF_A_CARD.values()])
def test_a_card_of_version_0_1_that_is_no_json_is_refused(older: Path, content: str) -> None:
    (older / "card.json").write_text(content)
    write_manifest(older)
    with pytest.raises(DeltaDamaged, match=r"card\.json is no card"):
        read_card(older)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"files": {}, "digest": ""}'])
def test_what_is_no_manifest_of_version_0_1_is_refused_in_a_sentence(
    older: Path, content: bytes
) -> None:
    (older / "manifest.json").write_bytes(content)
    with pytest.raises(DeltaDamaged, match=r"manifest\.json was changed.*unlearn again") as refusal:
        read_card(older)
    assert "\n" not in str(refusal.value)
