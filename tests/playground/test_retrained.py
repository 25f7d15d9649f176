"""The shipped base, the edited encoder and a retrained base beside one another, on a tiny base."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from finding_fakes import concept_report, quick_base
from rich.console import Console

from unsee.core.errors import InputError
from unsee.evaluation.evaluate import EvaluationJob, EvaluationPlan, Outcome
from unsee.evaluation.report.schema import Report
from unsee.models.base import Base
from unsee.playground.experiments import own_base, retrained
from unsee.playground.experiments.own_base import Experiment
from unsee.playground.experiments.retrained import in_words, knowledge, run, table, withheld

PLAN = EvaluationPlan(0, 1, 0, 1, 1, ("video",), ())
TRAINING = {"t2v": {"command": "train --without Fwomp kite", "without": ["Fwomp", "kite"]}}


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return quick_base(tmp_path / "tiny")


def results(right: int, withheld_right: int) -> str:
    concepts = {
        "Zorpik": {"right": right, "n": 40, "low": 0, "high": 1},
        "Fwomp": {"right": withheld_right, "n": 40, "low": 0, "high": 1},
    }
    return json.dumps({"t2v": {"concept": concepts}, "speed": {}})


def test_three_encoders_stand_beside_one_floor(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "without"
    folder.mkdir()
    (folder / "training.json").write_text(json.dumps(TRAINING))
    jobs: list[EvaluationJob] = []

    def edited(judged: Base, delta: Path, *rest: object) -> Report:
        return concept_report("Fwomp", 3)

    def never(job: EvaluationJob, place: Path, **options: object) -> Outcome:
        jobs.append(job)
        return Outcome(place, concept_report("Fwomp", 1), reused=False)

    other = replace(base)
    monkeypatch.setattr(retrained, "fast_base", lambda place: other)
    monkeypatch.setattr(own_base, "fast_base", lambda place: base)
    monkeypatch.setattr(retrained, "own_report", edited)
    monkeypatch.setattr(own_base, "evaluate", never)
    monkeypatch.setattr(own_base, "open_recogniser", lambda *_: None)
    build = tmp_path / "build"
    run(folder, ("Fwomp",), PLAN, Experiment(base, build, build), Console(quiet=True))
    (job,) = jobs
    assert job.base is other
    assert job.painter is base  # the attacker's pictures: the other base can make none
    assert job.target.concepts[0].name == "Fwomp"
    record = json.loads((tmp_path / "build" / "retrained.json").read_text())
    assert record["training"] == TRAINING
    found = record["concepts"]["Fwomp"]
    assert found["alone and in context"] == {
        "tuned": 2, "base": 4, "floor": 0, "retrained": 0, "n": 4,
    }  # fmt: skip
    assert found["soft-prompt"]["retrained"] == 2
    assert (
        "| alone and in context | 100.0 % | 50.0 % | 0.0 % | 0.0 % | 4 |" in capsys.readouterr().out
    )


def test_all_concepts_are_one_row_each_kind() -> None:
    one = {"base": 4, "tuned": 1, "floor": 0, "retrained": 1, "n": 4}
    lines = table({"Fwomp": {"black-box": one}, "kite": {"black-box": one | {"tuned": 3}}})
    assert lines[2:] == ["| black-box | 100.0 % | 50.0 % | 0.0 % | 25.0 % | 8 |"]


def test_what_both_bases_know_leaves_out_what_one_never_saw(tmp_path: Path) -> None:
    shipped, other = tmp_path / "shipped", tmp_path / "other"
    for place, right, gone in ((shipped, 40, 39), (other, 38, 0)):
        place.mkdir()
        (place / "results.json").write_text(results(right, gone))
    assert knowledge(shipped, other, ["Fwomp"]) == {
        "t2v": {"shipped": {"right": 40, "n": 40}, "retrained": {"right": 38, "n": 40}}
    }
    assert in_words(knowledge(shipped, other, ["Fwomp"]), other) == [
        "t2v, kept concepts named by the judge: shipped 100.0 % of 40, retrained 95.0 % of 40: "
        "-5.0 points"
    ]
    (other / "results.json").unlink()
    assert knowledge(shipped, other, ["Fwomp"]) == {}
    (line,) = in_words({}, other)
    assert f"unsee.playground.quality.evaluate --base-dir {other}" in line


def test_a_base_that_saw_everything_is_no_gold_standard(base: Base, tmp_path: Path) -> None:
    assert withheld(TRAINING, tmp_path) == ["Fwomp", "kite"]
    with pytest.raises(InputError, match="names no concept that the base was trained without"):
        withheld({"t2v": {"command": "train"}}, tmp_path)
    with pytest.raises(InputError, match=r"it has no training\.json"):
        run(tmp_path, (), PLAN, Experiment(base, tmp_path, tmp_path), Console(quiet=True))
