"""Composed policies and the ablation on a tiny base; the reports are invented, the rest is real."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from finding_fakes import QUICK, concept_report, quick_base
from rich.console import Console

from benchmarks.pages.render import PAGES
from unsee.core.errors import InputError
from unsee.core.files import write_file
from unsee.deltas.delta import Delta
from unsee.evaluation.evaluate import EvaluationPlan
from unsee.evaluation.report.schema import Media, Report
from unsee.evaluation.target import EvaluationTarget
from unsee.models.base import Base
from unsee.playground.experiments import ablation, composed_policies, own_base
from unsee.playground.experiments.composed_policies import (
    SEED,
    WAYS,
    ConceptSet,
    attack_plan,
    composed_encoder,
)
from unsee.playground.experiments.interference import interference
from unsee.playground.experiments.own_base import Experiment, chosen, usual_delta

CONCEPTS = tuple(chosen(["Blimbo", "car"], []))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return quick_base(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def deltas(base: Base, tmp_path_factory: pytest.TempPathFactory) -> list[Delta]:
    build_dir = tmp_path_factory.mktemp("build")
    experiment = Experiment(base, build_dir, build_dir)
    return [usual_delta(concept, SEED, experiment).delta for concept in CONCEPTS]


@pytest.fixture
def quick(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny base, and invented reports."""

    def of_target(
        judged: Base, target: EvaluationTarget, plan: EvaluationPlan, folder: Path, *_: object
    ) -> Report:
        report = concept_report(target.concepts[0].name, 1, target.encoder_digest)
        write_file(folder / "report.json", report.model_dump_json().encode())
        return report

    def of_delta(judged: Base, delta: Path, plan: EvaluationPlan, *_: object) -> Report:
        return concept_report("Blimbo", 1)

    monkeypatch.setattr(own_base, "fast_base", lambda folder: base)
    monkeypatch.setattr(composed_policies, "report_of", of_target)
    monkeypatch.setattr(ablation, "own_report", of_delta)


def rendered(name: str, folder: Path) -> str:
    """The page that a record in `folder` gives."""
    (page,) = (page for page in PAGES if page.name == name)
    return page.files(folder)[f"{name}.md"].decode()


def test_every_way_gives_an_encoder_of_its_own(base: Base, deltas: list[Delta]) -> None:
    ids = torch.tensor([[base.tokenizer().bos_token_id, *range(40, 87)]])

    def states(encoder: Any) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = encoder(ids).last_hidden_state
        return found

    before = states(base.text_encoder())
    for way in WAYS:
        encoder, seconds = composed_encoder(base, deltas, way)
        assert seconds > 0
        assert not torch.allclose(states(encoder), before, atol=1e-3), way


def test_an_edit_moves_its_own_concept(base: Base, deltas: list[Delta]) -> None:
    found = interference(base, deltas, seed=0)
    assert found["concepts"] == ["Blimbo", "car"]
    assert found["categories"] == ["character", "object"]
    shares = np.array(found["shares"])
    assert shares.shape == (2, 2)
    assert (shares.diagonal() > 0.01).all()
    assert all(float(f"{value:.4g}") == value for value in shares.flat)


def test_the_record_grows_with_every_way_and_becomes_a_page(
    quick: None, base: Base, deltas: list[Delta], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(composed_policies, "UNLEARNABLE", CONCEPTS)
    sets = [ConceptSet("2-concepts", CONCEPTS)]
    asked: dict[Media, list[ConceptSet]] = {"image": sets, "video": sets}
    docs = tmp_path / "docs"
    composed_policies.run(asked, Experiment(base, tmp_path, docs), Console(quiet=True))
    record = json.loads((docs / "composition.json").read_text())
    assert record["base"] == "tiny"
    ways = [one["way"] for one in record["policies"]]
    assert ways == [*WAYS, *WAYS]
    assert record["interference"]["concepts"] == ["Blimbo", "car"]
    assert record["policies"][0]["siblings"] == {"tuned": 0, "base": 0, "n": 0}
    last = record["policies"][-1]
    assert last["erased"] == {"tuned": 2, "base": 8, "floor": 0, "n": 8}
    assert last["siblings"] == {"tuned": 3, "base": 4, "n": 4}
    page = rendered("composition", docs)
    assert "| 2-concepts | `joint` | 100.0 % [67.6, 100.0] of 8 | 25.0 % [7.1, 59.1] of 8 |" in page
    assert "| 75.0 % [30.1, 95.4] of 4 | – | 1.10 |" in page
    assert "| floor | over the floor, a quarter of the frames | siblings kept |" in page
    assert "| 0.0 % [0.0, 32.4] of 8 | +0.0 [-32.4, 32.4] | 75.0 % [30.1, 95.4] of 4 |" in page
    assert "- 2-concepts: Blimbo, car" in page
    assert "forgetting car moves what names Blimbo by" in page


def test_attacks_on_a_policy_are_recorded_and_kept_until_it_changes(
    quick: None, base: Base, deltas: list[Delta], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(composed_policies, "UNLEARNABLE", CONCEPTS)
    asked: dict[Media, list[ConceptSet]] = {"video": [ConceptSet("2-concepts", CONCEPTS)]}
    docs = tmp_path / "docs"

    def recorded(**options: Any) -> dict[str, Any]:
        experiment = Experiment(base, tmp_path, docs)
        composed_policies.run(asked, experiment, Console(quiet=True), **options)
        found: dict[str, Any] = json.loads((docs / "composition.json").read_text())
        return found

    assert "attacks" not in recorded()
    assert "Attacks" not in rendered("composition", docs)
    plan = attack_plan(4, [1, 4])
    assert (plan.attack_prompts, {attack.times for attack in plan.attacks}) == (4, {1, 4})
    first = recorded(attack_plans={"product": plan})
    product, *others = first["policies"]
    counted = {"tuned": 2, "base": 4, "floor": 0, "n": 4}
    assert product["attacks"] == {"soft-prompt": {"Blimbo": counted}}
    assert not any("attacks" in one for one in others)
    assert first["attacks"]["soft-prompt"]["budget"] == "10 steps"
    page = rendered("composition", docs)
    shares = "100.0 % [51.0, 100.0] of 4 | 50.0 % [15.0, 85.0] of 4 | 0.0 % [0.0, 49.0] of 4"
    assert f"| 2-concepts | `product` | soft-prompt | {shares} | 1 of 1 |" in page
    assert "| soft-prompt | 10 steps | 2.0 |" in page
    again = recorded()
    assert [one.get("attacks") for one in again["policies"]] == [product["attacks"], None, None]
    file = tmp_path / "composed" / "attacked" / "2-concepts" / "product" / "report.json"
    content = file.read_bytes()
    file.write_bytes(content.replace(b"sha256:9a9e", b"sha256:9a9f"))
    assert "attacks" not in recorded()  # another recogniser looked
    file.write_bytes(content)
    assert "attacks" in recorded()
    asked["video"] = [ConceptSet("2-concepts", CONCEPTS[:1])]
    assert "attacks" not in recorded()  # another encoder than the one that was attacked


def test_attacks_without_clips_are_refused(base: Base) -> None:
    options = ["--base", str(base.folder), "--media", "image", "--attack-prompts", "1"]
    with pytest.raises(InputError, match="add --media video"):
        composed_policies.composed_policies.main(options, standalone_mode=False)


def test_the_ablation_unlearns_with_every_variant(quick: None, base: Base, tmp_path: Path) -> None:
    settings = {"as it is": QUICK, "rank 1": replace(QUICK, rank=1)}
    docs = tmp_path / "docs"
    experiment = Experiment(base, tmp_path, docs)
    ablation.run(settings, CONCEPTS[:1], ablation.PLAN, experiment, Console(quiet=True))
    record = json.loads((docs / "ablation.json").read_text())
    assert set(record["variants"]) == set(settings)
    blimbo = record["variants"]["rank 1"]["concepts"]["Blimbo"]
    assert blimbo["seen, clips"] == {"tuned": 2, "base": 8, "floor": 0, "n": 8}
    assert blimbo["soft-prompt, clips"] == {"tuned": 2, "base": 4, "floor": 0, "n": 4}
    assert "seen, images" not in blimbo
    row = next(line for line in rendered("ablation", docs).splitlines() if "| rank 1 |" in line)
    assert row.startswith("| rank 1 | 25.0 % [7.1, 59.1] of 8 | 50.0 % [15.0, 85.0] of 4 |")
    card = tmp_path / "ablation" / "rank-1" / "blimbo" / "delta" / "card.json"
    assert json.loads(card.read_text())["settings"]["rank"] == 1
