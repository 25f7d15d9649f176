"""The command `unsee unlearn`, as a user types it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from unsee.client.errors import InputError
from unsee.training import job
from unsee.training.cli import unlearn
from unsee.training.delta_folder import load_delta


def _unlearn(base_dir: Path, *arguments: str) -> Result:
    options = ("--category", "character", "--base", str(base_dir), "--epochs", "1")
    return CliRunner().invoke(unlearn, ["Blimbo", *options, *arguments])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "blimbo"


@pytest.fixture
def images_dir(tmp_path: Path, images: list[Image.Image]) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for index, image in enumerate(images):
        image.save(folder / f"{index}.png")
    return folder


def test_from_generated_images(base_dir: Path, out: Path) -> None:
    result = _unlearn(base_dir, "--shots", "2", "--also", "Blimby", "-o", str(out))
    assert result.exit_code == 0, result.output
    assert "unlearned Blimbo in" in result.stdout
    assert "unlearning 1/1 loss -" in result.stderr
    card = load_delta(out).card
    assert card.concept.aliases == ("Blimby",)
    assert (card.image_source, len(card.prompts), card.settings.shots) == ("generated", 2, 2)
    assert card.settings.learning_rate == 1e-3  # what base.yaml recommends
    assert set(card.seconds) == {"few_shot_images", "encode_images", "tune"}
    assert sorted(path.name for path in (out / "images").iterdir()) == ["00.png", "01.png"]


def test_again_reuses_and_another_needs_force(base_dir: Path, out: Path, images_dir: Path) -> None:
    given = ("--images", str(images_dir), "-o", str(out))
    first = _unlearn(base_dir, *given, "--json")
    assert json.loads(first.stdout)["reused"] is False
    assert json.loads(first.stdout)["card"]["settings"]["shots"] == 4
    again = _unlearn(base_dir, *given, "--json")
    assert json.loads(again.stdout) == json.loads(first.stdout) | {"reused": True}
    assert "already holds this delta" in _unlearn(base_dir, *given).stdout

    other = _unlearn(base_dir, *given, "--seed", "1")
    assert isinstance(other.exception, InputError)
    assert "another delta (seed differ)" in str(other.exception)
    forced = _unlearn(base_dir, *given, "--seed", "1", "--force", "--json")
    assert json.loads(forced.stdout)["card"]["seed"] == 1
    assert load_delta(out).card.seed == 1


def test_some_of_the_images(base_dir: Path, out: Path, images_dir: Path) -> None:
    given = ("--images", str(images_dir), "-o", str(out))
    result = _unlearn(base_dir, *given, "--shots", "9")
    assert "holds 4 images, 9 were asked for" in str(result.exception)
    assert _unlearn(base_dir, *given, "--shots", "3").exit_code == 0
    assert load_delta(out).card.settings.shots == 3


def test_an_interrupt_leaves_no_folder(
    base_dir: Path, out: Path, images_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "save_delta", interrupt)
    result = _unlearn(base_dir, "--images", str(images_dir), "-o", str(out))
    assert result.exit_code != 0
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--shots", "0"), "0 is not in the range x>=1"),
        (("--category", "colour"), "'colour' is not one of"),
        (("--learning-rate", "0"), "is not in the range 0<x<=1"),
        (("--seed", "-1"), "is not in the range x>=0"),
        (("--images", "/nowhere/at/all"), "images folder /nowhere/at/all does not exist"),
        (("--also", ""), "the concept is not valid: aliases[0]"),
        (("--learning-rate", "nan"), "learning_rate"),
    ],
)
def test_bad_options_get_one_sentence(
    base_dir: Path, out: Path, arguments: tuple[str, ...], words: str
) -> None:
    result = _unlearn(base_dir, "-o", str(out), *arguments)
    said = str(result.exception) if isinstance(result.exception, InputError) else result.stderr
    assert words in said
    assert result.exit_code != 0
    assert not out.exists()


def test_names_become_folder_names(
    base_dir: Path, images_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def folder_of(name: str) -> str:
        options = ("--category", "style", "--base", str(base_dir), "--epochs", "1", "--json")
        result = CliRunner().invoke(unlearn, [name, *options, "--images", str(images_dir)])
        if result.exception:
            raise result.exception
        return str(json.loads(result.stdout)["delta"])

    assert folder_of("Édouard  Ménilles!") == "deltas/edouard-menilles"
    with pytest.raises(InputError, match="name the output with -o"):
        folder_of("絵")


def test_importing_the_command_is_light() -> None:
    code = "import unsee.training.cli; print({'torch', 'pydantic'} & set(sys.modules))"
    paths = [path for path in sys.path if path]
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}; {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "set()"
