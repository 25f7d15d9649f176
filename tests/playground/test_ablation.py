"""The ablation's variants and its page, against reports whose sums are known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from finding_fakes import concept_report

from unsee.core.unlearning_settings import AnchoredMode
from unsee.playground.experiments import ablation_page
from unsee.playground.experiments.ablation import subjects, variants
from unsee.playground.experiments.ablation_page import Trial


@pytest.fixture
def trials() -> list[Trial]:
    return [
        Trial("as it is", "Blimbo", concept_report("Blimbo", 0), 2.0, erased=1.0, kept=0.99),
        Trial("as it is", "car", concept_report("car", 1), 4.0, erased=0.8, kept=0.99),
        Trial("no attackers", "Blimbo", concept_report("Blimbo", 3), 1.0, erased=None, kept=None),
    ]


def test_each_variant_changes_exactly_one_setting() -> None:
    usual = AnchoredMode(attackers=3)
    found = variants(usual)
    assert next(iter(found.items())) == ("as it is", usual)
    for title, settings in list(found.items())[1:]:
        names = AnchoredMode.__dataclass_fields__
        changed = [name for name in names if getattr(settings, name) != getattr(usual, name)]
        assert len(changed) == 1, title


def test_what_is_the_default_already_is_no_variant() -> None:
    assert "rank 16" not in variants(AnchoredMode(rank=16))
    without = variants(AnchoredMode(attackers=0))
    assert "no attackers" not in without
    assert not any("weigh" in title for title in without)


def test_six_concepts_of_all_categories_are_taken() -> None:
    assert len({concept.name for concept in subjects()}) == 6
    assert [concept.category for concept in subjects()].count("person") == 2
    assert len({concept.category for concept in subjects()}) == 5


def test_a_row_pools_the_concepts_of_a_variant(trials: list[Trial]) -> None:
    text = ablation_page.page(trials)
    first = next(line for line in text.splitlines() if line.startswith("| as it is |"))
    assert "| 12.5 % [3.5, 36.0] of 16 | 50.0 %" in first
    assert first.endswith(
        "| 1.05 (1.00 to 1.10) | 0.90 (0.80 to 1.00) | 0.990 | 3.0 (2.0 to 4.0) |"
    )
    other = next(line for line in text.splitlines() if line.startswith("| no attackers |"))
    assert other.endswith("| 1.30 | – | – | 1.0 |")


def test_the_record_holds_settings_and_concepts(trials: list[Trial], tmp_path: Path) -> None:
    ablation_page.write(trials, variants(AnchoredMode(attackers=3)), tmp_path)
    record = json.loads((tmp_path / "ablation.json").read_text())
    assert set(record) == {"as it is", "no attackers"}
    assert record["no attackers"]["settings"]["attackers"] == 0
    assert record["as it is"]["concepts"]["car"]["seen, clips"]["tuned"]["hits"] == 2
