"""What every command of the benchmarks and the playground does, as those of `unsee` do."""

import importlib
import pkgutil
import random
import re
from pathlib import Path

import click
import pytest
from PIL import Image

import benchmarks
from benchmarks.reliability.held_open import main as held_open
from benchmarks.reliability.malformed import bombard
from unsee.cli.parameters import UserPath
from unsee.playground.quality import sample
from unsee.playground.training.train import parse_arguments

ROOT = Path(__file__).parents[2]
PROGRAMS = [
    str(file.relative_to(ROOT))
    for folder in ("benchmarks", "playground")
    for file in sorted((ROOT / folder).rglob("*.py"))
    if file.name == "__main__.py" or "if __name__ ==" in file.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_ends_with_one_sentence_and_a_code(program):
    *_, last = (ROOT / program).read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(r"    sys\.exit\(exit_code_of\(\w+\)\)", last), last


def test_every_path_of_a_command_may_start_with_a_tilde():
    modules = [
        importlib.import_module(found.name)
        for found in pkgutil.walk_packages(benchmarks.__path__, "benchmarks.")
        if not found.name.endswith("__main__")
    ]
    commands = [one for module in modules for one in vars(module).values()]
    paths = [
        (command.name, option.name, option.type)
        for command in commands
        if isinstance(command, click.Command)
        for option in command.params
        if isinstance(option.type, click.Path)
    ]
    assert len(paths) > 5
    assert not [path for path in paths if not isinstance(path[2], UserPath)]


def test_paths_of_the_training_may_start_with_a_tilde(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse_arguments(["--base-dir", "~/base"]).base_dir == tmp_path / "base"
    with pytest.raises(SystemExit):
        parse_arguments(["--base-dir", "~nobody-here/base"])
    assert "--base-dir" in capsys.readouterr().err


def test_a_folder_that_must_be_there_is_asked_for():
    with pytest.raises(click.BadParameter, match="nowhere is not there; give a folder that is"):
        held_open.main(["--checkout", "nowhere"], standalone_mode=False)


def test_a_sheet_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    sheet = tmp_path / "sheet.png"
    sheet.write_bytes(b"the old one")

    def half_written(image, file, *_):
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", half_written)
    with pytest.raises(OSError, match="No space left"):
        sample.main(["--kind", "render", "--output", str(sheet)])
    assert sheet.read_bytes() == b"the old one"
    assert list(tmp_path.iterdir()) == [sheet]


def test_a_long_bombardment_says_how_far_it_is(capsys):
    bombard([lambda chance: ("grpc OK", "")], random.Random(0), 2001)
    assert capsys.readouterr().err == "0 of 2001 requests\n2000 of 2001 requests\n"
