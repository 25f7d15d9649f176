"""The command `unsee delta`, as a user types it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from delta_fakes import write_key_pair

from unsee.cli.main import run
from unsee.core.errors import DeltaDamaged, InputError
from unsee.deltas.delta import Delta
from unsee.deltas.folder import save_delta
from unsee.deltas.signature import sign_folder
from unsee.jobs.delta_cli import delta


@pytest.fixture
def folder(make_delta: Callable[..., Delta], tmp_path: Path) -> Path:
    said = {"method": "paper", "seed": 0, "anchor": "a dog", "stopped": "the concept is gone"}
    made = make_delta({"edit.up": torch.ones(500)}, erased=0.873, kept=0.9961, **said)
    save_delta(made, tmp_path / "blimbo")
    return tmp_path / "blimbo"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    write_key_pair(folder)
    return folder


def _say(*arguments: object) -> str:
    result = CliRunner().invoke(delta, [str(argument) for argument in arguments])
    if result.exception:
        raise result.exception
    return result.stdout


def test_show_says_what_the_delta_is(folder: Path) -> None:
    facts = {line[:10].strip(): line[11:] for line in _say("show", folder).splitlines()}
    size = (folder / "delta.safetensors").stat().st_size / 1000
    assert facts["concept"] == "Blimbo (character)"
    assert facts["aliases"] == "Blimby"
    assert facts["anchor"] == "a dog"
    assert facts["base"].startswith("tiny, text encoder sha256:")
    assert facts["method"] == "paper, seed 0"
    assert facts["scores"].startswith("erased 87 %, kept 99.6 %")
    assert facts["stopped"] == "the concept is gone"
    assert facts["size"] == f"{size:.2f} KB"
    assert facts["signature"] == "none"


def test_show_of_a_delta_that_was_not_measured(
    make_delta: Callable[..., Delta], tmp_path: Path
) -> None:
    save_delta(
        make_delta({"up": torch.ones(2)}, erased=None, kept=None, anchor=None), tmp_path / "blimbo"
    )
    said = _say("show", tmp_path / "blimbo")
    assert "not measured" in said
    assert "None" not in said


def test_show_says_that_a_signature_is_there(folder: Path, keys: Path) -> None:
    sign_folder(folder, keys / "key.pem")
    assert f"unsee delta verify {folder} --public-key" in _say("show", folder)


def test_verify_says_whether_the_signature_was_checked(folder: Path, keys: Path) -> None:
    assert _say("verify", folder).splitlines()[1] == "signature: none"
    sign_folder(folder, keys / "key.pem")
    assert "signature: present, not checked" in _say("verify", folder)
    checked = _say("verify", folder, "--public-key", keys / "key.public.pem")
    assert f"signature: made with the private key of {keys / 'key.public.pem'}" in checked
    assert "every file of the delta of Blimbo is as it was written" in checked


def test_both_as_json(folder: Path, keys: Path) -> None:
    shown = json.loads(_say("show", folder, "--json"))
    assert shown.keys() == {"delta", "size_bytes", "signed", "card"}
    assert (shown["delta"], shown["signed"]) == (str(folder), False)
    assert shown["card"]["concept"]["name"] == "Blimbo"
    assert shown["size_bytes"] == (folder / "delta.safetensors").stat().st_size
    sign_folder(folder, keys / "key.pem")
    verified = {"delta": str(folder), "concept": "Blimbo", "signed": True}
    unchecked = json.loads(_say("verify", folder, "--json"))
    assert unchecked == verified | {"signature_checked": False}
    checked = json.loads(_say("verify", folder, "--json", "--public-key", keys / "key.public.pem"))
    assert checked == verified | {"signature_checked": True}


def test_verify_refuses_what_is_damaged_or_not_signed(folder: Path, keys: Path) -> None:
    with pytest.raises(DeltaDamaged, match="is not signed"):
        _say("verify", folder, "--public-key", keys / "key.public.pem")
    (folder / "card.json").write_text("{}")
    for command in ("verify", "show"):
        with pytest.raises(DeltaDamaged, match=r"card\.json was changed"):
            _say(command, folder)
    with pytest.raises(InputError, match="holds no delta"):
        _say("verify", folder.parent)


def test_through_the_root_command_damage_is_one_line_and_exit_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "delta.safetensors").unlink()
    assert run(["delta", "verify", str(folder)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert "delta.safetensors is missing" in captured.err
    assert captured.err.count("\n") == 1
