"""`make evaluation` on a tiny base; the reports are invented, the deltas and folders are real."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from finding_fakes import QUICK, concept_report, quick_base
from rich.console import Console

from unsee.core.errors import InputError
from unsee.core.files import write_file, write_json
from unsee.deltas.folder import load_delta
from unsee.evaluation.evaluate import EvaluationPlan
from unsee.evaluation.report.schema import load_report
from unsee.evaluation.run_folder import Inputs
from unsee.evaluation.target import open_target
from unsee.jobs.job import UnlearnJob
from unsee.models.base import Base
from unsee.models.spec import UnlearnDefaults
from unsee.playground.experiments import every_concept, own_base
from unsee.playground.experiments.every_concept import ATTACKS, Run, run
from unsee.playground.experiments.findings import Gatherer
from unsee.playground.experiments.own_base import (
    UNLEARNABLE,
    Experiment,
    chosen,
    concept_folder,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return quick_base(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def asked(base: Base, tmp_path: Path) -> Run:
    return Run(
        mode="anchored",
        concepts=chosen(["Blimbo", "car"], []),
        seeds=(0, 1),
        attack_seeds=frozenset({0}),
        attacked=frozenset({"Blimbo"}),
        plan=EvaluationPlan(0, 1, 1, 1, 1, ("video",), ATTACKS),
        experiment=Experiment(base, tmp_path / "build", tmp_path / "docs"),
        only_unlearn=False,
    )


@pytest.fixture
def plans(base: Base, monkeypatch: pytest.MonkeyPatch) -> list[EvaluationPlan]:
    """The plans that were evaluated, instead of an evaluation."""
    seen: list[EvaluationPlan] = []

    def invented(
        judged: Base, delta: Path, plan: EvaluationPlan, folder: Path, frames_dir: Path
    ) -> None:
        seen.append(plan)
        target = open_target(delta, judged)
        report = concept_report(target.concepts[0].name, 1, target.encoder_digest)
        write_file(folder / "report.json", report.model_dump_json().encode())

    monkeypatch.setattr(own_base, "fast_base", lambda folder: base)
    monkeypatch.setattr(every_concept, "own_report", invented)
    return seen


def test_every_seed_is_asked_and_only_the_chosen_are_attacked(
    asked: Run, plans: list[EvaluationPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(asked, Console(quiet=True))
    assert [(plan.seed, bool(plan.attacks)) for plan in plans] == [
        (0, True),
        (0, False),
        (1, False),
        (1, False),
    ]
    record = json.loads((asked.experiment.output_dir / "results.json").read_text())
    assert (record["base"], record["base_digest"]) == ("tiny", asked.experiment.base.digest())
    found = record["concepts"]["anchored"]
    assert {seed: set(names) for seed, names in found.items()} == {
        "seed-0": {"Blimbo", "car"},
        "seed-1": {"Blimbo", "car"},
    }
    monkeypatch.setattr("unsee.jobs.job.unlearn", None)
    run(asked, Console(quiet=True))  # every delta is found again


def test_a_base_without_its_prompts_is_asked_the_same(
    asked: Run, plans: list[EvaluationPlan], base: Base, tmp_path: Path
) -> None:
    shutil.copytree(base.folder, tmp_path / "base", symlinks=True)
    (tmp_path / "base" / "prompts.txt").write_text("a red house\na boat at sea\n")
    spec = base.spec.model_copy(update={"prompts": "prompts.txt"})
    prompted = replace(base, spec=spec, folder=tmp_path / "base")
    one = replace(
        asked,
        concepts=chosen(["car"], []),
        seeds=(0,),
        experiment=replace(asked.experiment, base=prompted),
    )
    for mode in ("without-prompts", "anchored"):
        run(replace(one, mode=mode), Console(quiet=True))
    assert plans[0] == plans[1]
    folders = {
        mode: concept_folder(asked.experiment.build_dir, mode, 0, "car") / "delta"
        for mode in own_base.MODES
    }
    without, usual = (load_delta(folders[mode]).card for mode in ("without-prompts", "anchored"))
    assert without.tensors_digest != usual.tensors_digest
    assert without.settings == usual.settings
    unprompted = UnlearnJob(base, without.concept, QUICK, 0)
    made = own_base.unlearned(unprompted, tmp_path / "unprompted").delta.card
    assert made.tensors_digest == without.tensors_digest
    record = json.loads((asked.experiment.output_dir / "results.json").read_text())
    assert set(record["concepts"]) == {"without-prompts", "anchored"}


def test_a_base_that_has_no_prompts_needs_no_mode_for_it(
    asked: Run, plans: list[EvaluationPlan]
) -> None:
    with pytest.raises(InputError, match="without prompts already; use --mode anchored"):
        run(replace(asked, mode="without-prompts"), Console(quiet=True))
    assert not plans


def test_deltas_alone_leave_no_record(asked: Run, plans: list[EvaluationPlan]) -> None:
    shown = io.StringIO()
    run(replace(asked, only_unlearn=True, seeds=(0,)), Console(file=shown, width=200))
    assert not plans
    assert not asked.experiment.output_dir.exists()
    folders = [
        concept_folder(asked.experiment.build_dir, "anchored", 0, name)
        for name in ("Blimbo", "car")
    ]
    cards = [load_delta(folder / "delta").card for folder in folders]
    seconds = sum(sum(card.seconds.values()) for card in cards) / 2
    (last,) = shown.getvalue().splitlines()[-1:]
    assert last.startswith(f"2 deltas: {seconds:.1f} s and 0.0")
    assert last.endswith(" MB each, on average")


def test_what_belongs_to_other_settings_is_not_gathered(
    asked: Run, plans: list[EvaluationPlan], base: Base
) -> None:
    run(replace(asked, concepts=chosen(["car"], []), seeds=(0,)), Console(quiet=True))
    found = Gatherer(base, asked.experiment.build_dir, {"anchored": QUICK}).gathered()
    assert [(one.concept, one.seed, one.num_bytes > 0) for one in found] == [("car", 0, True)]
    delta = load_delta(concept_folder(asked.experiment.build_dir, "anchored", 0, "car") / "delta")
    assert found[0].values == sum(tensor.numel() for tensor in delta.tensors.values())
    other = replace(QUICK, rank=3)
    assert Gatherer(base, asked.experiment.build_dir, {"anchored": other}).gathered() == []


def test_a_report_of_an_older_delta_is_not_gathered(
    asked: Run, plans: list[EvaluationPlan], base: Base
) -> None:
    run(replace(asked, concepts=chosen(["car"], []), seeds=(0,)), Console(quiet=True))
    file = (
        concept_folder(asked.experiment.build_dir, "anchored", 0, "car") / "report" / "report.json"
    )
    write_file(file, concept_report("car", 1, "sha256:other").model_dump_json().encode())
    assert Gatherer(base, asked.experiment.build_dir, {"anchored": QUICK}).gathered() == []


@pytest.mark.parametrize("changed", ["denoiser", "recogniser"])
def test_a_report_of_another_denoiser_or_recogniser_is_not_in_the_record(
    asked: Run, plans: list[EvaluationPlan], changed: str
) -> None:
    one = replace(asked, seeds=(0,))
    run(one, Console(quiet=True))
    for name, models in (("Blimbo", {"video": "sha256:old"}), ("car", {"video": "sha256:new"})):
        folder = concept_folder(asked.experiment.build_dir, "anchored", 0, name) / "report"
        report = load_report(folder)
        settings = report.settings
        if changed == "denoiser":
            inputs = Inputs(
                target=report.target,
                settings=settings,
                media=("video",),
                attacks={},
                models=models,
                clip_model=None,
                questions="sha256:3",
            )
            write_json(folder / "inputs.json", inputs)
        elif name == "Blimbo":
            settings = settings.model_copy(update={"recogniser_digest": "sha256:old"})
            write_json(folder / "report.json", report.model_copy(update={"settings": settings}))
    run(replace(one, concepts=chosen(["car"], [])), Console(quiet=True))
    record = json.loads((asked.experiment.output_dir / "results.json").read_text())
    assert set(record["concepts"]["anchored"]["seed-0"]) == {"car"}


def test_a_delta_of_other_settings_is_made_anew(
    asked: Run, plans: list[EvaluationPlan], base: Base
) -> None:
    one = replace(asked, concepts=chosen(["car"], []), seeds=(0,), only_unlearn=True)
    run(one, Console(quiet=True))
    card = concept_folder(asked.experiment.build_dir, "anchored", 0, "car") / "delta" / "card.json"
    before = card.read_bytes()
    spec = base.spec.model_copy(
        update={"unlearn": UnlearnDefaults(anchored=replace(QUICK, rank=3))}
    )
    other = replace(one.experiment, base=replace(base, spec=spec))
    run(replace(one, experiment=other), Console(quiet=True))
    assert card.read_bytes() != before


@pytest.mark.parametrize(
    ("names", "categories", "message"),
    [
        (["nobody"], [], "'nobody'"),
        (["desert"], [], "'desert'"),
        (["car"], ["person"], "none of car is of the category person"),
    ],
)
def test_concepts_that_are_not_there_are_refused(
    names: list[str], categories: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        chosen(names, categories)


def test_filters_choose_together() -> None:
    assert len(chosen([], [])) == len(UNLEARNABLE) == 32
    assert [concept.name for concept in chosen(["car", "Blimbo"], ["object"])] == ["car"]
