"""The page of results, against reports whose sums are known."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest
from finding_fakes import fake_finding

from unsee.core.unlearning_settings import AnchoredMode, PaperMode
from unsee.playground.experiments import rate_search, results_page
from unsee.playground.experiments.rate_search import RateTrial
from unsee.playground.experiments.results_page import Results


@pytest.fixture
def results() -> Results:
    """Two concepts in paper mode with one seed, and one of them in the default mode with two."""
    return Results(
        findings=[
            fake_finding("Blimbo", 1, mode="paper"),
            fake_finding("Zorpik", 0, mode="paper"),
            fake_finding("Blimbo", 2),
            fake_finding("Zorpik", 0),
            fake_finding("Blimbo", 0, seed=1),
        ],
        trials=[RateTrial(1e-4, 0.9, 1.0, 1.0), RateTrial(5e-4, 0.1, 0.8, 1.0)],
        settings={"anchored": AnchoredMode(), "paper": PaperMode(learning_rate=5e-4)},
        machine={"python": "3"},
    )


def row(text: str, title: str) -> list[str]:
    """The cells of the first row that begins so."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {title} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_figures_stand_beside_each_other_pooled_over_concepts_and_seeds(results: Results) -> None:
    text = results_page.page(results)
    assert row(text, "concept, clips, any frame") == [
        "100.0 % [75.8, 100.0] of 12",
        "12.5 % [2.2, 47.1] of 8",
        "16.7 % [4.7, 44.8] of 12",
        "Blimbo: 25.0 % [7.1, 59.1] of 8",
    ]
    assert row(text, "… in the mean frame")[1:3] == [
        "0.0 % [0.0, 32.4] of 8",
        "8.3 % [1.5, 35.4] of 12",
    ]
    assert row(text, "attack soft-prompt, clips, any frame")[3] == "all alike"


def test_what_is_kept_is_in_units_of_the_base(results: Results) -> None:
    lower = [replace(f, report=with_base_siblings(f.report, 3)) for f in results.findings]
    text = results_page.page(replace(results, findings=lower))
    base, paper, *_ = row(text, "siblings, clips, relative to the base")
    assert base.startswith("75.0 %")
    assert paper.startswith("100.0 % [")


def with_base_siblings(report, hits):
    from report_fakes import pair

    kept = tuple(one.model_copy(update={"recognised": pair(3, hits, 4)}) for one in report.kept)
    return report.model_copy(update={"kept": kept})


def test_motion_is_averaged_over_concepts_and_sizes_over_deltas(results: Results) -> None:
    text = results_page.page(results)
    assert row(text, "motion ratio") == [
        "1",
        "1.05 (1.00 to 1.10)",
        "1.05 (1.00 to 1.10)",
        "Blimbo: 1.10",
    ]
    assert row(text, "seconds per concept")[1:3] == ["2.5 (2.0 to 3.0)", "2.7 (2.0 to 4.0)"]
    assert row(text, "bytes of a delta") == ["–", "1,400", "1,400", "all alike"]


def test_a_mode_without_reports_has_no_column(results: Results) -> None:
    only = replace(results, findings=results.of_mode("paper"))
    text = results_page.page(only)
    assert "| base | paper mode | worst, paper mode |" in text
    assert "default mode" not in text
    default = results_page.page(
        replace(
            results,
            findings=results.of_mode("anchored"),
            trials=[],
            settings={"anchored": AnchoredMode()},
        )
    )
    assert "| base | default mode | worst, default mode |" in default
    assert "learning rate" not in default


def test_every_concept_has_a_row_with_its_seeds_together(results: Results) -> None:
    cells = row(results_page.page(results), "Blimbo")
    assert cells[:3] == ["a creature", "–", "8 → **2** of 8"]
    assert cells[-2:] == ["1.10", "3.0"]


def test_the_chosen_rate_is_marked(results: Results) -> None:
    assert "| **0.0005** | 10 % | 80 % | 100 % | 0.900 |" in results_page.page(results)


def test_the_record_keeps_modes_and_seeds_apart(results: Results, tmp_path: Path) -> None:
    results_page.write(results, tmp_path / "docs")
    record = json.loads((tmp_path / "docs" / "results.json").read_text())
    found = record["concepts"]["anchored"]
    assert found["seed-0"]["Blimbo"]["clips"] == {"tuned": 2, "base": 4, "n": 4}
    assert found["seed-1"]["Blimbo"]["clips"]["tuned"] == 0
    assert set(record["settings"]) == {"paper", "anchored"}


def test_the_plots_are_xml_and_do_not_change(results: Results, tmp_path: Path) -> None:
    plots = [tmp_path / name for name in (results_page.RATES_PLOT, results_page.CONCEPTS_PLOT)]
    results_page.write(results, tmp_path)
    first = [plot.read_bytes() for plot in plots]
    results_page.write(results, tmp_path)
    for plot, content in zip(plots, first, strict=True):
        ElementTree.fromstring(content)
        assert plot.read_bytes() == content


def test_score_is_the_harmonic_mean_of_forgetting_and_keeping() -> None:
    assert RateTrial(1e-4, 0.5, 1.0, 1.0).score == pytest.approx(2 / 3)
    assert RateTrial(1e-4, 1.0, 1.0, 1.0).score == 0
    assert RateTrial(1e-4, 0.0, 0.0, 0.0).score == 0


def test_the_best_rate_is_the_smaller_of_two_equals() -> None:
    equal = [RateTrial(rate, 0.1, 0.9, 0.9) for rate in (1e-3, 5e-4)]
    assert rate_search.best([*equal, RateTrial(1e-5, 1.0, 1.0, 1.0)]).learning_rate == 5e-4
