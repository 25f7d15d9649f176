"""`make evaluation` on a tiny base; the reports are invented, the deltas are real."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from finding_fakes import QUICK, concept_report, quick_base
from rich.console import Console

from unsee.core.errors import InputError
from unsee.deltas.folder import load_delta
from unsee.evaluation.evaluate import EvaluationPlan
from unsee.evaluation.report.schema import Report
from unsee.evaluation.target import open_target
from unsee.jobs.job import UnlearnJob
from unsee.models.base import Base
from unsee.models.spec import UnlearnDefaults
from unsee.playground.experiments import every_concept, own_base
from unsee.playground.experiments.every_concept import ATTACKS, Run, run
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
    ) -> Report:
        seen.append(plan)
        return concept_report(open_target(delta, judged).concepts[0].name, 1)

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


def test_a_run_adds_to_what_others_have_measured(
    asked: Run, plans: list[EvaluationPlan], tmp_path: Path
) -> None:
    elsewhere = replace(asked.experiment, build_dir=tmp_path / "another checkout")
    run(replace(asked, concepts=chosen(["car"], []), seeds=(1,)), Console(quiet=True))
    one = replace(asked, concepts=chosen(["Blimbo"], []), seeds=(0,), experiment=elsewhere)
    run(one, Console(quiet=True))
    found = recorded(asked)["concepts"]["anchored"]
    assert found["seed-1"].keys() == {"car"}
    assert found["seed-0"].keys() == {"Blimbo"}
    assert recorded(asked)["gate"]["anchored"]["encoders"] == 2
    delta = load_delta(concept_folder(elsewhere.build_dir, "anchored", 0, "Blimbo") / "delta")
    values = sum(tensor.numel() for tensor in delta.tensors.values())
    assert found["seed-0"]["Blimbo"]["values"] == values
    assert found["seed-0"]["Blimbo"]["bytes"] > 0


def test_a_run_with_other_settings_leaves_out_what_the_mode_had(
    asked: Run, plans: list[EvaluationPlan], base: Base
) -> None:
    run(replace(asked, seeds=(0,)), Console(quiet=True))
    defaults = UnlearnDefaults(anchored=replace(QUICK, rank=3))
    spec = base.spec.model_copy(update={"unlearn": defaults})
    other = replace(asked.experiment, base=replace(base, spec=spec))
    one = replace(asked, concepts=chosen(["car"], []), seeds=(0,), experiment=other)
    run(one, Console(quiet=True))
    assert recorded(asked)["concepts"]["anchored"] == {"seed-0": {"car": ANY}}
    assert recorded(asked)["settings"]["anchored"]["rank"] == 3


@pytest.mark.parametrize("changed", ["t2v/unet", "t2v/vae"])
def test_what_another_denoiser_or_autoencoder_found_is_not_in_the_record(
    asked: Run, plans: list[EvaluationPlan], base: Base, tmp_path: Path, changed: str
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(base.folder, folder, symlinks=True)
    experiment = replace(asked.experiment, base=replace(base, folder=folder))
    run(replace(asked, seeds=(0,), experiment=experiment), Console(quiet=True))
    (weights,) = (folder / changed).glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    experiment = replace(asked.experiment, base=replace(base, folder=folder))
    one = replace(asked, concepts=chosen(["car"], []), seeds=(0,), experiment=experiment)
    run(one, Console(quiet=True))
    assert recorded(asked)["concepts"]["anchored"] == {"seed-0": {"car": ANY}}


def recorded(asked: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(asked.experiment.record("results.json").read_bytes())
    return found


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
