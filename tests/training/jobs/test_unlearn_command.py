"""The command `unsee unlearn`, as a user types it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from delta_fakes import write_key_pair
from PIL import Image

from unsee.core.errors import InputError
from unsee.core.unlearning_settings import PaperMode
from unsee.deltas.folder import load_card, load_delta
from unsee.deltas.signature import verify_folder
from unsee.jobs import job
from unsee.jobs.cli import INTERRUPTED, unlearn

Command = Callable[..., Result]


@pytest.fixture(scope="module")
def quick_base(base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base with its own prompts and anchored mode over in two steps."""
    folder = tmp_path_factory.mktemp("quick")
    content = yaml.safe_load((base_dir / "base.yaml").read_text())
    content |= {"t2i": str(base_dir / "t2i"), "t2v": str(base_dir / "t2v")}
    content["prompts"] = "prompts.txt"
    content["unlearn"] = {
        "paper": {"learning_rate": 1e-3, "epochs": 1},
        "anchored": {
            "attackers": 2,
            "attack_steps": 2,
            "erased_at_least": 50.0,
            "prompts_to_forget": 8,
            "prompts_to_keep": 8,
        },
    }
    (folder / "base.yaml").write_text(yaml.safe_dump(content))
    (folder / "prompts.txt").write_text("a red house\nBlimbo in a tree\na boat\n")
    return folder


@pytest.fixture
def type_in(quick_base: Path) -> Command:
    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(unlearn, ["--base", str(quick_base), *map(str, arguments)])

    return run


@pytest.fixture
def blimbo_in(type_in: Command) -> Command:
    def run(*arguments: str | Path) -> Result:
        return type_in("Blimbo", "--category", "character", *arguments)

    return run


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "deltas" / "blimbo"


@pytest.fixture
def images_dir(tmp_path: Path, images: list[Image.Image]) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for index, image in enumerate(images):
        image.save(folder / f"{index}.png")
    return folder


def _sentence(result: Result) -> str:
    assert result.exit_code != 0
    if isinstance(result.exception, InputError):
        assert "\n" not in str(result.exception)
        return str(result.exception)
    return result.stderr


def _deltas(result: Result) -> list[dict[str, Any]]:
    """What the one JSON document lists."""
    deltas: list[dict[str, Any]] = json.loads(result.stdout)["deltas"]
    return deltas


def test_from_generated_images(blimbo_in: Command, out: Path) -> None:
    result = blimbo_in("--shots", 2, "--also", "Blimby", "--anchor", "a cat", "-o", out)
    assert result.exit_code == 0, result.output
    assert f"{out}: unlearned Blimbo in" in result.stdout
    assert "unlearning 2/2 erased" in result.stderr
    card = load_card(out)
    assert f"{card.stopped}\n" in result.stdout
    assert (card.method, card.anchor, card.concept.aliases) == ("anchored", "a cat", ("Blimby",))
    assert (card.image_source, len(card.prompts), card.settings.shots) == ("generated", 2, 2)
    assert next(iter(card.seconds)) == "few_shot_images"
    assert sorted(path.name for path in (out / "images").iterdir()) == ["00.png", "01.png"]
    assert list(out.parent.iterdir()) == [out]


def test_without_attackers_the_name_is_enough(blimbo_in: Command, out: Path) -> None:
    result = blimbo_in("--attackers", 0, "-o", out)
    assert result.exit_code == 0, result.output
    assert "few-shot images" not in result.stderr
    card = load_card(out)
    assert (card.image_source, card.prompts, list(card.seconds)) == ("none", (), ["unlearn"])
    assert sorted(path.name for path in out.iterdir()) == ["card.json", "delta.safetensors"]
    assert blimbo_in("--attackers", 0, "-o", out).exit_code == 0  # it is there already
    plan = blimbo_in("--attackers", 0, "--dry-run", "-o", out)
    assert "images   none: without attackers this mode learns from the name alone" in plan.stdout
    assert "at most 0 latents denoised" in plan.stdout


@pytest.mark.parametrize("option", ["--images", "--shots", "--batch-size"])
def test_without_attackers_what_is_said_about_images_is_refused(
    blimbo_in: Command, out: Path, images_dir: Path, option: str
) -> None:
    value = images_dir if option == "--images" else 2
    sentence = _sentence(blimbo_in("--attackers", 0, option, value, "-o", out))
    assert sentence.startswith(option)
    assert "would be ignored: without attackers this mode learns from the name alone" in sentence
    assert not out.exists()


def test_paper_mode_takes_what_the_base_recommends(
    blimbo_in: Command, out: Path, images_dir: Path
) -> None:
    result = blimbo_in("--mode", "paper", "--images", images_dir, "-o", out, "--batch-size", 4)
    assert result.exit_code == 0, result.output
    assert "unlearning 1/1 loss -" in result.stderr
    assert "denoising error" in result.stdout
    settings = load_card(out).settings
    assert isinstance(settings, PaperMode)
    assert (settings.learning_rate, settings.epochs, settings.batch_size) == (1e-3, 1, 4)


def test_again_reuses_and_another_needs_force(
    blimbo_in: Command, out: Path, images_dir: Path
) -> None:
    given = ("--images", images_dir, "-o", out)
    first = blimbo_in(*given, "--json")
    (made,) = _deltas(first)
    assert made.keys() == {"delta", "reused", "card"}
    assert made["reused"] is False
    assert made["card"]["settings"]["shots"] == 4
    again = blimbo_in(*given, "--json")
    assert _deltas(again) == [made | {"reused": True}]
    assert "already holds this delta" in blimbo_in(*given).stdout

    assert "another delta (seed differ)" in _sentence(blimbo_in(*given, "--seed", 1))
    forced = blimbo_in(*given, "--seed", 1, "--force", "--json")
    assert _deltas(forced)[0]["card"]["seed"] == 1
    assert load_delta(out).card.seed == 1


def test_an_empty_folder_is_filled_and_a_damaged_delta_needs_force(
    blimbo_in: Command, out: Path
) -> None:
    out.mkdir(parents=True)
    made = ("--attackers", 0, "-o", out)
    assert "does not exist yet" in blimbo_in(*made, "--dry-run").stdout
    assert blimbo_in(*made).exit_code == 0
    for damage in ("", "{}"):
        (out / "card.json").write_text(damage)
        assert "to replace what is there, add --force" in _sentence(blimbo_in(*made))
        assert blimbo_in(*made, "--force").exit_code == 0
    (out / "card.json").unlink()
    assert "to replace what is there, add --force" in _sentence(blimbo_in(*made))


@pytest.mark.parametrize("output", [".", ".."])
def test_the_folder_that_one_is_in_is_not_replaced(
    blimbo_in: Command, out: Path, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out.mkdir(parents=True)
    monkeypatch.chdir(out)
    for force in ((), ("--force",)):
        sentence = _sentence(blimbo_in("--attackers", 0, "-o", output, *force))
        assert sentence.startswith(f"{output} is the folder that this command runs in")
    assert list(out.parent.iterdir()) == [out]


def test_some_of_the_images(blimbo_in: Command, out: Path, images_dir: Path) -> None:
    given = ("--images", images_dir, "-o", out)
    assert "holds 4 images, 9 were asked for" in _sentence(blimbo_in(*given, "--shots", 9))
    assert blimbo_in(*given, "--shots", 3).exit_code == 0
    assert load_card(out).settings.shots == 3


def test_several_names_get_a_folder_each_and_are_not_done_twice(
    type_in: Command, tmp_path: Path
) -> None:
    deltas = tmp_path / "deltas"
    asked = ("Blimbo", "Édouard  Ménilles!", "--category", "character", "--output-dir", deltas)
    first = type_in(*asked, "--shots", 1, "--json")
    assert first.exit_code == 0, first.output
    assert [made["delta"] for made in _deltas(first)] == [
        str(deltas / "blimbo"),
        str(deltas / "edouard-menilles"),
    ]
    assert "[2/2] Édouard  Ménilles!" in first.stderr
    again = type_in(*asked, "--shots", 1, "--json")
    assert [delta["reused"] for delta in _deltas(again)] == [True, True]


def test_the_first_failure_ends_a_list_and_what_was_done_stays(
    type_in: Command, tmp_path: Path
) -> None:
    file, deltas = tmp_path / "concepts.yaml", tmp_path / "deltas"
    entries = [
        {"concept": "Blimbo", "category": "character", "anchor": "a cat", "also": ["Blimby"]},
        {"concept": "Zorpik " * 9, "category": "character"},
        {"concept": "Van Gogh", "category": "style"},
    ]
    file.write_text(yaml.safe_dump({"concepts": entries}))
    result = type_in("--concepts", file, "--output-dir", deltas, "--shots", 1)
    assert "use a shorter name" in _sentence(result)
    assert "1 of 3 concepts are done and stay" in result.stderr
    result = type_in("--concepts", file, "--output-dir", deltas, "--shots", 1, "--json")
    assert [made["delta"] for made in _deltas(result)] == [str(deltas / "blimbo")]
    assert [path.name for path in deltas.iterdir()] == ["blimbo"]
    card = load_card(deltas / "blimbo")
    assert (card.anchor, card.concept.aliases) == ("a cat", ("Blimby",))


def test_default_folders(
    type_in: Command, images_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    style = ("--category", "style", "--images", images_dir, "--json")
    result = type_in("Édouard  Ménilles!", *style)
    assert _deltas(result)[0]["delta"] == "deltas/edouard-menilles"
    assert "name the output with -o" in _sentence(type_in("絵", *style))


def test_an_interrupt_says_how_it_goes_on(
    blimbo_in: Command, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "unlearn", interrupt)
    result = blimbo_in("--shots", 1, "-o", out)
    assert result.exit_code == INTERRUPTED
    assert (
        "interrupted before a first step was kept; "
        "the same command goes on with the images that were made\n"
    ) in result.stderr
    assert not out.exists()
    monkeypatch.undo()
    result = blimbo_in("--shots", 1, "-o", out)
    assert "this job was interrupted before; it goes on with the images" in result.stderr
    assert "few-shot images" not in result.stderr
    assert load_card(out).seconds["few_shot_images"] > 0


def test_a_dry_run_writes_nothing(blimbo_in: Command, out: Path) -> None:
    before = sorted(out.parent.parent.rglob("*"))
    result = blimbo_in("--dry-run", "--json", "-o", out)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["plans"][0]["output"] == str(out)
    assert "does not exist yet" in blimbo_in("--dry-run", "-o", out).stdout
    assert sorted(out.parent.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--shots", "0"), "0 is too small; give 1 or more"),
        (("--category", "colour"), "'colour' is not one of"),
        (("--learning-rate", "0"), "0 is too small; give more than 0"),
        (("--seed", "-1"), "-1 is too small; give 0 or more"),
        (("--images", "/nowhere/at/all"), "images folder /nowhere/at/all does not exist"),
        (("--also", ""), "the concept is not valid: concepts[0].also[0]"),
        (("--mode", "paper", "--learning-rate", "nan"), "'nan' is not a finite number"),
        (("--learning-rate", "0.1"), "--learning-rate does not belong to --mode anchored"),
        (("--epochs", "3"), "--epochs does not belong to --mode anchored"),
        (("--mode", "paper", "--rank", "3"), "--rank does not belong to --mode paper"),
        (("--mode", "paper", "--anchor", "a"), "--anchor does not belong to --mode paper"),
        (("--output-dir", "/tmp"), "give one"),
        (("Zorpik",), "-o names the folder of one delta and 2 concepts are given"),
        (("Zorpik", "--also", "Z"), "--also names one concept's other names"),
        (("blimbo",), "'Blimbo' and 'blimbo' would share the folder blimbo"),
        (("--concepts", "list.yaml"), "leave out CONCEPT"),
        (("--sign-with", "/nowhere.pem"), "/nowhere.pem"),
    ],
)
def test_bad_options_get_one_sentence(
    blimbo_in: Command, out: Path, arguments: tuple[str, ...], words: str
) -> None:
    assert words in _sentence(blimbo_in("-o", out, *arguments))
    assert not out.parent.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "no concept is given"),
        ((" ", "--category", "style"), "the name of a concept is empty"),
        (("Blimbo",), "--category is missing; choose one of character"),
        (("--concepts", "list.yaml", "--category", "style"), "leave out --category"),
        (("--concepts", "nowhere.yaml"), "cannot read the concept list nowhere.yaml"),
        (
            ("A", "B", "--category", "style", "--images", "pictures"),
            "--images pictures shows one concept and 2 are given",
        ),
    ],
)
def test_what_to_unlearn_must_be_clear(
    type_in: Command, arguments: tuple[str, ...], words: str
) -> None:
    assert words in _sentence(type_in(*arguments))


def test_a_file_is_no_concept(type_in: Command, tmp_path: Path) -> None:
    file = tmp_path / "concepts.yaml"
    file.write_text("concepts: []")
    sentence = _sentence(type_in(file, "--category", "style", "--output-dir", tmp_path / "out"))
    assert sentence == f"{file} is a file; for the concepts in it: --concepts {file}"


def test_a_base_that_cannot_be_edited_is_refused_first(
    quick_base: Path, base_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "t2i").mkdir()
    index = json.loads((base_dir / "t2i" / "model_index.json").read_text())
    index["text_encoder"] = ["transformers", "LlamaModel"]
    (tmp_path / "t2i" / "model_index.json").write_text(json.dumps(index))
    content = yaml.safe_load((quick_base / "base.yaml").read_text())
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(content | {"t2i": "t2i"}))
    result = CliRunner().invoke(unlearn, ["--base", str(tmp_path)])
    assert "reads prompts with a LlamaModel" in _sentence(result)


def test_a_signed_delta(blimbo_in: Command, out: Path, tmp_path: Path) -> None:
    private, public = write_key_pair(tmp_path)
    for _ in range(2):
        result = blimbo_in("--shots", 1, "-o", out, "--sign-with", private)
        assert result.exit_code == 0, result.output
        verify_folder(out, public)


def test_scalars_for_tensorboard(blimbo_in: Command, out: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    result = blimbo_in("--shots", 1, "-o", out, "--log-dir", tmp_path / "logs")
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "logs" / "blimbo").glob("events.out.tfevents.*"))) == 1


@pytest.mark.parametrize("place", ["..", ".", "logs", "../other/.."])
def test_the_log_is_kept_out_of_the_delta(blimbo_in: Command, out: Path, place: str) -> None:
    sentence = _sentence(blimbo_in("-o", out, "--log-dir", out / place))
    assert "would write the log into the delta's folder" in sentence
    assert not out.parent.exists()


def test_importing_the_command_is_light() -> None:
    code = "import unsee.jobs.cli; print({'torch', 'pydantic'} & set(sys.modules))"
    paths = [path for path in sys.path if path]
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}; {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "set()"
