"""The page of results, against reports whose sums are known."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime
from pathlib import Path

import pytest

from playground import rate_search, results_page
from playground.rate_search import RateTrial
from playground.results_page import Results
from report_fakes import pair
from unsee.client.policy import Concept
from unsee.evaluation.report import (
    AttackRow,
    ErasedRow,
    KeptRow,
    Report,
    Settings,
    Target,
)
from unsee.training.settings import PaperMode


def report(name: str, seen: int) -> Report:
    both = pair(seen, 4, 4)
    return Report(
        target=Target(
            kind="delta",
            name=name,
            concepts=(Concept(name=name, category="character"),),
            base="playground",
            base_digest="sha256:0",
            encoder_digest="sha256:1",
        ),
        settings=Settings(
            seed=0,
            prompts_per_wording=4,
            prompts_per_sibling=1,
            num_others=1,
            attack_prompts=4,
            num_frames=16,
            num_inference_steps=20,
            guidance_scale=3.5,
            recogniser="judge",
            recogniser_digest="sha256:2",
        ),
        erased=(
            ErasedRow(
                concept=name, media="video", wording="alone", any_frame=both, mean_frame=both
            ),
            ErasedRow(concept=name, media="video", wording="long", any_frame=both, mean_frame=both),
        ),
        kept=(
            KeptRow(
                concept="Mipsu",
                category="character",
                group="sibling",
                media="video",
                recognised=pair(3, 4, 4),
            ),
        ),
        attacks=(
            AttackRow(
                attack="soft prompt",
                concept=name,
                media="video",
                recognised=pair(2, 4, 4),
                budget="10 steps",
                source="a paper",
                seconds=2.0,
            ),
        ),
        seconds={"total": 1.0},
        versions={},
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


@pytest.fixture
def results() -> Results:
    trials = [RateTrial(1e-4, 0.9, 1.0, 1.0), RateTrial(5e-4, 0.1, 0.8, 1.0)]
    return Results(
        reports={"Blimbo": (report("Blimbo", 1), 2.0), "Zorpik": (report("Zorpik", 0), 4.0)},
        trials=trials,
        settings=PaperMode(learning_rate=5e-4),
        machine={"python": "3"},
    )


def test_figures_are_pooled_over_concepts_with_their_intervals(results: Results) -> None:
    text = results_page.page(results)
    assert "| clips | 100.0 % [67.6, 100.0] | 12.5 % [2.2, 47.1] | 8 |" in text
    assert "| siblings, clips | 100.0 % [67.6, 100.0] | 75.0 % [40.9, 92.9] | 8 |" in text
    assert "3.0 s a concept" in text
    assert "2 of 32 concepts" in text
    assert "0 of 2 encoders pass the gate" in text


def test_every_concept_has_a_row_and_absent_figures_a_dash(results: Results) -> None:
    row = next(line for line in results_page.page(results).splitlines() if "| Blimbo |" in line)
    assert "| – | 4 → **1** of 4 | 4 → **1** of 4 | – | 4 → **3** of 4 |" in row
    assert "4 → **2** of 4" in row
    assert row.endswith("| – | 2.0 |")


def test_the_chosen_rate_is_marked(results: Results) -> None:
    assert "| **0.0005** | 10 % | 80 % | 100 % | 0.900 |" in results_page.page(results)


def test_files_are_complete_and_the_plots_are_xml(results: Results, tmp_path: Path) -> None:
    results_page.write(results, tmp_path / "docs")
    record = json.loads((tmp_path / "docs" / "results.json").read_text())
    assert record["concepts"]["Blimbo"]["clips"]["tuned"]["hits"] == 1
    for plot in (results_page.RATES_PLOT, results_page.CONCEPTS_PLOT):
        first = (tmp_path / "docs" / plot).read_bytes()
        ElementTree.fromstring(first)
        results_page.write(results, tmp_path / "docs")
        assert (tmp_path / "docs" / plot).read_bytes() == first


def test_score_is_the_harmonic_mean_of_forgetting_and_keeping() -> None:
    assert RateTrial(1e-4, 0.5, 1.0, 1.0).score == pytest.approx(2 / 3)
    assert RateTrial(1e-4, 1.0, 1.0, 1.0).score == 0
    assert RateTrial(1e-4, 0.0, 0.0, 0.0).score == 0


def test_the_best_rate_is_the_smaller_of_two_equals() -> None:
    equal = [RateTrial(rate, 0.1, 0.9, 0.9) for rate in (1e-3, 5e-4)]
    assert rate_search.best([*equal, RateTrial(1e-5, 1.0, 1.0, 1.0)]).learning_rate == 5e-4
