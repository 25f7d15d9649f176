"""Which bases the demo and the experiments find, what they are asked, and where results lie."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
import yaml

from unsee.core.errors import BaseFolderError, InputError
from unsee.jobs.job import UnlearnJob
from unsee.models.base import Base, load_base
from unsee.playground.experiments import (
    ablation,
    composed_policies,
    every_concept,
    floors,
    own_base,
    retrained,
)
from unsee.playground.experiments.edits import compare
from unsee.playground.experiments.own_base import (
    Experiment,
    evaluation_set,
    find_base,
    found_before,
    languages_of,
    policy_concept,
)
from unsee.playground.networks.wan import CLIP
from unsee.playground.training.program import exit_code_of
from unsee.playground.training.train_data import BASE_DIR, REPOSITORY
from unsee.playground.training.wan import stages
from unsee.playground.world.languages import ENGLISH, SPANISH
from unsee.playground.world.world import find_concept


@pytest.fixture
def second() -> Base:
    """The second base, whose weights are not looked at."""
    return load_base(stages.BASE_DIR)


def test_a_base_is_found_by_its_name_or_its_folder() -> None:
    assert find_base("playground") == find_base(str(BASE_DIR)) == BASE_DIR
    with pytest.raises(
        InputError, match="no base 'nonsense'; there are playground, playground-wan"
    ):
        find_base("nonsense")


def test_a_base_without_weights_names_the_command_that_makes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_base, "REPOSITORY", tmp_path)
    folder = tmp_path / "bases" / "playground-wan"
    folder.mkdir(parents=True)
    (folder / "base.yaml").write_bytes((stages.BASE_DIR / "base.yaml").read_bytes())
    with pytest.raises(
        BaseFolderError, match=r"no weights in .*t2v yet; make them with .*"
    ) as found:
        find_base("playground-wan")
    command = "python -m unsee.playground.training.train --base playground-wan --stage all"
    assert command in str(found.value)


def test_results_lie_in_a_place_of_the_bases_name(second: Base, tmp_path: Path) -> None:
    docs, build = REPOSITORY / "docs" / "measured", REPOSITORY / "build" / "evaluation"
    first = Experiment.on(load_base(BASE_DIR), None, None)
    assert (first.output_dir, first.build_dir) == (docs, build)
    other = Experiment.on(second, None, None)
    assert (other.output_dir, other.build_dir) == (docs / second.name, build / second.name)
    assert Experiment.on(second, tmp_path, None).build_dir == tmp_path


@pytest.mark.parametrize(
    ("name", "own"), [("playground", "playground"), ("../my base/v1", "my-base-v1")]
)
def test_results_of_a_base_in_another_place_never_lie_among_the_first_s(
    tmp_path: Path, name: str, own: str
) -> None:
    content = yaml.safe_load((BASE_DIR / "base.yaml").read_text())
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(content | {"name": name}))
    copy = Experiment.on(load_base(tmp_path), None, None)
    assert copy.output_dir == REPOSITORY / "docs" / "measured" / own
    assert copy.build_dir == REPOSITORY / "build" / "evaluation" / own


def test_a_name_that_no_folder_can_have_is_refused(tmp_path: Path) -> None:
    content = yaml.safe_load((BASE_DIR / "base.yaml").read_text())
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(content | {"name": "../.."}))
    with pytest.raises(InputError, match=r"after the base '\.\./\.\.'; give name in its base"):
        Experiment.on(load_base(tmp_path), None, None)


def test_what_was_found_on_another_base_is_not_replaced(
    second: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_base, "load_card", lambda folder: SimpleNamespace(base="playground"))
    concept = policy_concept(find_concept("Blimbo"), second)
    job = UnlearnJob(second, concept, second.spec.unlearn.anchored, 0)
    with pytest.raises(InputError, match="on the base 'playground', and this is 'playground-wan'"):
        own_base.unlearned(job, tmp_path)


EXPERIMENTS = (
    (floors.floors, "floors.json"),
    (every_concept.every_concept, "results.json"),
    (ablation.ablation, "ablation.json"),
    (composed_policies.composed_policies, "composition.json"),
    (compare.compare, "edits_video.json"),
    (retrained.retrained, "retrained.json"),
)


@pytest.mark.parametrize(("command", "name"), EXPERIMENTS)
@pytest.mark.parametrize("content", ["{}", '{"base": "playground"}'])
def test_a_record_of_another_base_is_refused_before_any_work(
    second: Base, tmp_path: Path, command: click.Command, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    arguments = ["--base", str(second.folder), "--output-dir", str(tmp_path)]
    arguments += [str(tmp_path)] if command is retrained.retrained else []
    words = f"{name} holds .* base 'playground', and this is 'playground-wan'; .* --output-dir"
    with pytest.raises(InputError, match=words):
        command.main(arguments, standalone_mode=False)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_record_of_the_same_base_is_written_again(second: Base, tmp_path: Path) -> None:
    experiment = Experiment.on(second, None, tmp_path)
    assert experiment.record("floors.json") == tmp_path / "floors.json"
    (tmp_path / "floors.json").write_text(json.dumps({"base": second.name}))
    assert experiment.record("floors.json") == tmp_path / "floors.json"


def test_a_record_is_added_to_if_it_begins_alike(tmp_path: Path) -> None:
    file = tmp_path / "floors.json"
    head = {"base": "playground", "plan": {"seed": 0, "sizes": (1, 2)}}
    assert found_before(file, head) == {}
    file.write_text(json.dumps(head | {"concepts": {"kite": 1}}))
    assert found_before(file, head) == {"concepts": {"kite": 1}}
    assert found_before(file, head | {"plan": {"seed": 1, "sizes": (1, 2)}}) == {}
    assert found_before(file, head | {"base_digest": "sha256:0"}) == {}


@pytest.mark.parametrize(
    ("error", "sentence", "code"),
    [
        (OSError(28, "No space left on device", "/a/file"), "/a/file: No space left", 1),
        (InputError("the base is wrong"), "error: the base is wrong", 2),
        (KeyboardInterrupt(), "interrupted; run it again", 130),
    ],
)
def test_what_ends_an_experiment_is_one_sentence(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    sentence: str,
    code: int,
) -> None:
    @click.command()
    def experiment() -> None:
        raise error

    monkeypatch.setattr("sys.argv", ["experiment"])
    for command in (experiment, experiment.callback):
        assert exit_code_of(command) == code
        assert sentence in capsys.readouterr().err


def test_the_second_base_is_asked_and_judged_as_the_first_and_in_spanish(second: Base) -> None:
    first = load_base(BASE_DIR)
    judge = second.folder / (second.spec.judge or "")
    assert judge.resolve() == BASE_DIR / "judge"
    known, firsts = evaluation_set(second), evaluation_set(first)
    assert known.model_copy(update={"languages": {}}) == firsts
    assert (languages_of(first), languages_of(second)) == ((ENGLISH,), (ENGLISH, SPANISH))
    assert second.spec.clip == CLIP


def test_a_concept_is_unlearned_by_its_names_in_every_language_of_the_base(second: Base) -> None:
    first, umbrella = load_base(BASE_DIR), find_concept("umbrella")
    assert policy_concept(umbrella, first).aliases == ("parasol",)
    assert policy_concept(umbrella, second).aliases == ("parasol", "paraguas", "sombrilla")
    assert policy_concept(find_concept("Blimbo"), second).aliases == ()
