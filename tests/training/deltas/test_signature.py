"""Signatures of folders: made with a private key, and refused for every reason by its name."""

import base64
import builtins
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from delta_fakes import write_key_pair
from hypothesis import given, settings
from hypothesis import strategies as st

from unsee.core.errors import DeltaDamaged, InputError
from unsee.deltas import signature
from unsee.deltas.files import verify_files, write_card
from unsee.deltas.signature import load_signer, sign_folder, verify_contents, verify_folder

PASSWORD = "correct horse"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "blimbo"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "00.png").write_bytes(b"PNG")
    (folder / "delta.safetensors").write_bytes(b"tensors")
    write_card(folder, {})
    return folder


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    write_key_pair(folder, "operator")
    write_key_pair(folder, "other", ec.generate_private_key(ec.SECP384R1()))
    write_key_pair(folder, "odd", ec.generate_private_key(ec.SECP256K1()))
    write_key_pair(folder, "ed25519", ed25519.Ed25519PrivateKey.generate())
    write_key_pair(folder, "rsa", rsa.generate_private_key(65537, 2048))
    write_key_pair(folder, "locked", ec.generate_private_key(ec.SECP521R1()), PASSWORD)
    (folder / "text.pem").write_text("no key")
    return folder


def test_a_signed_folder_is_accepted_wherever_it_lies(folder: Path, keys: Path) -> None:
    sign_folder(folder, keys / "operator.pem")
    assert sorted(path.name for path in folder.parent.iterdir()) == ["blimbo"]
    verify_folder(folder, keys / "operator.public.pem")
    verify_files(folder)
    elsewhere = folder.with_name("elsewhere")
    shutil.copytree(folder, elsewhere)
    verify_folder(elsewhere, keys / "operator.public.pem")
    link = folder.with_name("link")
    link.symlink_to(elsewhere)
    verify_folder(link, keys / "operator.public.pem")


def test_signing_again_replaces_the_signature(folder: Path, keys: Path) -> None:
    sign_folder(folder, keys / "other.pem")
    sign_folder(folder, keys / "operator.pem")
    verify_folder(folder, keys / "operator.public.pem")


def test_a_folder_without_a_signature_is_refused(folder: Path, keys: Path) -> None:
    with pytest.raises(DeltaDamaged, match=r"blimbo is not signed: there is no signature\.sig"):
        verify_folder(folder, keys / "operator.public.pem")


def test_the_signature_of_another_key_is_refused(folder: Path, keys: Path) -> None:
    sign_folder(folder, keys / "other.pem")
    words = r"signature\.sig was not made with the private key of .*operator\.public\.pem"
    with pytest.raises(DeltaDamaged, match=words):
        verify_folder(folder, keys / "operator.public.pem")


def _change(folder: Path) -> None:
    (folder / "delta.safetensors").write_bytes(b"others")


def _add(folder: Path) -> None:
    (folder / ".gitignore").write_text("*")


def _remove(folder: Path) -> None:
    (folder / "images" / "00.png").unlink()


@pytest.mark.parametrize(
    ("damage", "name"),
    [(_change, "delta.safetensors"), (_add, ".gitignore"), (_remove, "images/00.png")],
)
def test_a_change_is_found_even_with_a_new_card(
    folder: Path, keys: Path, damage: Callable[[Path], None], name: str
) -> None:
    sign_folder(folder, keys / "operator.pem")
    damage(folder)
    with pytest.raises(DeltaDamaged, match=f"blimbo/{name} "):
        verify_folder(folder, keys / "operator.public.pem")
    write_card(folder, {})
    names = re.escape(", ".join(sorted([name, "card.json"])))
    words = rf"blimbo is not as it was signed \({names} differ\)"
    with pytest.raises(DeltaDamaged, match=words):
        verify_folder(folder, keys / "operator.public.pem")


def test_a_statement_that_was_fitted_to_the_change_is_refused(folder: Path, keys: Path) -> None:
    sign_folder(folder, keys / "operator.pem")
    genuine = json.loads((folder / "signature.sig").read_text())
    _change(folder)
    write_card(folder, {})
    sign_folder(folder, keys / "other.pem")
    forged = json.loads((folder / "signature.sig").read_text())
    genuine["dsseEnvelope"]["payload"] = forged["dsseEnvelope"]["payload"]
    (folder / "signature.sig").write_text(json.dumps(genuine))
    with pytest.raises(DeltaDamaged, match="was not made with the private key of"):
        verify_folder(folder, keys / "operator.public.pem")


def test_no_change_to_a_signature_ends_in_a_traceback(folder: Path, keys: Path) -> None:
    sign_folder(folder, keys / "operator.pem")
    file = folder / "signature.sig"
    content = file.read_bytes()

    @given(st.integers(0, len(content) - 1), st.integers(0, 7))
    @settings(max_examples=150, deadline=None)
    def check(position: int, bit: int) -> None:
        changed = bytes([content[position] ^ 1 << bit])
        file.write_bytes(content[:position] + changed + content[position + 1 :])
        if _signed_content(file.read_bytes()) == _signed_content(content):
            return
        with pytest.raises(DeltaDamaged, match=r"signature\.sig|as it was signed"):
            verify_folder(folder, keys / "operator.public.pem")

    check()


def _signed_content(bundle: bytes) -> tuple[bytes, bytes] | None:
    """What the signature covers and the signature: the rest of a bundle vouches for nothing."""
    try:
        envelope = json.loads(bundle)["dsseEnvelope"]
        return base64.b64decode(envelope["payload"]), base64.b64decode(
            envelope["signatures"][0]["sig"]
        )
    except (ValueError, LookupError, TypeError):
        return None


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", '{"verificationMaterial": {}}', "\0", pytest.param(99999 * "[", id="deep")],
)
def test_what_is_no_signature_is_refused(folder: Path, keys: Path, content: str) -> None:
    (folder / "signature.sig").write_text(content)
    with pytest.raises(DeltaDamaged, match=r"signature\.sig is no signature that can be read"):
        verify_folder(folder, keys / "operator.public.pem")


def test_a_damaged_folder_is_not_signed(folder: Path, keys: Path) -> None:
    _change(folder)
    with pytest.raises(DeltaDamaged, match=r"delta\.safetensors was changed"):
        sign_folder(folder, keys / "operator.pem")
    assert not (folder / "signature.sig").exists()


@pytest.mark.parametrize(
    "name", ["text", "rsa", "ed25519", "odd", "operator.public"], ids=lambda name: name
)
def test_what_is_no_private_key_is_refused(keys: Path, name: str) -> None:
    words = rf"{name}\.pem cannot be used: an elliptic-curve private key .* openssl genpkey"
    with pytest.raises(InputError, match=words):
        load_signer(keys / f"{name}.pem")


@pytest.mark.parametrize(
    "name",
    ["text", "rsa.public", "ed25519.public", "odd.public", "operator"],
    ids=lambda name: name,
)
def test_what_is_no_public_key_is_refused(folder: Path, keys: Path, name: str) -> None:
    words = rf"{name}\.pem cannot be used: an elliptic-curve public key .* openssl pkey"
    with pytest.raises(InputError, match=words):
        verify_folder(folder, keys / f"{name}.pem")


def test_a_key_that_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read the key .*gone\.pem: No such file"):
        load_signer(tmp_path / "gone.pem")
    with pytest.raises(InputError, match=r"cannot read the key .*: Is a directory"):
        verify_folder(folder, tmp_path)


def test_the_password_comes_from_the_environment(
    folder: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNSEE_SIGN_PASSWORD", PASSWORD)
    sign_folder(folder, keys / "locked.pem")
    verify_folder(folder, keys / "locked.public.pem")
    sign_folder(folder, keys / "operator.pem")
    monkeypatch.setenv("UNSEE_SIGN_PASSWORD", "wrong")
    with pytest.raises(InputError, match=r"locked\.pem cannot be opened: this is not its password"):
        sign_folder(folder, keys / "locked.pem")
    monkeypatch.delenv("UNSEE_SIGN_PASSWORD")
    with pytest.raises(InputError, match=r"locked\.pem is encrypted; put its password in UNSEE"):
        sign_folder(folder, keys / "locked.pem")


def test_the_password_is_asked_for_on_a_terminal(
    folder: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UNSEE_SIGN_PASSWORD", raising=False)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    questions: list[str] = []

    def answer(question: str) -> str:
        questions.append(question)
        return PASSWORD

    monkeypatch.setattr(signature, "getpass", answer)
    sign_folder(folder, keys / "locked.pem")
    verify_folder(folder, keys / "locked.public.pem")
    assert questions == [f"password of {keys / 'locked.pem'}: "]


def test_without_the_library_the_install_is_named(
    folder: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = builtins.__import__

    def refuse(name: str, *arguments: Any) -> object:
        if name.startswith("model_signing"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return original(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", refuse)
    words = r'signatures need model-signing; install it with: pip install "unsee\[sign\]"'
    with pytest.raises(InputError, match=words):
        sign_folder(folder, keys / "operator.pem")
    with pytest.raises(InputError, match=words):
        verify_folder(folder, keys / "operator.public.pem")


def test_contents_are_signed_by_name_and_to_the_byte(keys: Path) -> None:
    files = {"report.json": b"{}", "report.html": b"<p>"}
    made = load_signer(keys / "operator.pem").sign_contents(files)
    verify_contents(files, made, keys / "operator.public.pem")
    for changed in (
        {**files, "report.json": b"{} "},
        {"report.json": b"{}"},
        {"report.json": b"<p>", "report.html": b"{}"},
    ):
        with pytest.raises(InputError, match="was not made over them"):
            verify_contents(changed, made, keys / "operator.public.pem")
    with pytest.raises(InputError, match="was not made over them"):
        verify_contents(files, made, keys / "other.public.pem")
    with pytest.raises(InputError, match="was not made over them"):
        verify_contents(files, b"{}", keys / "operator.public.pem")
