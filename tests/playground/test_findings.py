"""What was found about every concept as a record, against reports whose sums are known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from finding_fakes import fake_finding

from benchmarks.pages.render import PAGES
from unsee.core.files import write_json
from unsee.core.unlearning_settings import AnchoredMode, PaperMode, Settings
from unsee.playground.experiments.findings import Finding, asked_alike, with_finding
from unsee.playground.experiments.own_base import Mode


def record(findings: Sequence[Finding], settings: Mapping[Mode, Settings]) -> dict[str, Any]:
    """The record after one run for each of the findings."""
    found: dict[str, Any] = {}
    for one in findings:
        found = with_finding(found, one, settings[one.mode], {"python": "3"})
        found = json.loads(json.dumps(found, allow_nan=False))
    return found | asked_alike(findings[0].report)


@pytest.fixture
def found() -> dict[str, Any]:
    """Two concepts in paper mode with one seed, and one of them in the default mode with two."""
    return record(
        [
            fake_finding("Blimbo", 0, seed=1),
            fake_finding("Zorpik", 0),
            fake_finding("Blimbo", 1, mode="paper"),
            fake_finding("Zorpik", 0, mode="paper"),
            fake_finding("Blimbo", 2),
        ],
        {"anchored": AnchoredMode(), "paper": PaperMode(learning_rate=5e-4)},
    )


def rendered(found: dict[str, Any], folder: Path) -> str:
    write_json(folder / "results.json", found)
    return PAGES[0].files(folder)["results.md"].decode()


def row(text: str, title: str) -> list[str]:
    """The cells of the first row that begins so."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {title} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_the_record_keeps_modes_and_seeds_apart(found: dict[str, Any]) -> None:
    default = found["concepts"]["anchored"]
    assert default["seed-0"]["Blimbo"]["clips"] == {"tuned": 2, "base": 4, "floor": 0, "n": 4}
    assert default["seed-0"]["Blimbo"]["clips, mean frame"]["tuned"] == 1
    assert default["seed-1"]["Blimbo"]["clips"]["tuned"] == 0
    assert default["seed-0"]["Zorpik"]["soft-prompt, clips"] == {
        "tuned": 2,
        "base": 4,
        "floor": 0,
        "n": 4,
    }
    assert "images" not in default["seed-0"]["Zorpik"]
    assert set(found["settings"]) == {"paper", "anchored"}
    assert list(found["concepts"]) == ["paper", "anchored"]
    assert list(default) == ["seed-0", "seed-1"]
    assert list(default["seed-0"]) == ["Blimbo", "Zorpik"]


def test_the_gate_and_the_attacks_are_summed_up(found: dict[str, Any]) -> None:
    assert {mode: gate["encoders"] for mode, gate in found["gate"].items()} == {
        "paper": 2,
        "anchored": 3,
    }
    assert all(gate["missed"]["samples_at_least"] for gate in found["gate"].values())
    assert found["attacked"] == 3
    assert found["attacks"] == {
        "soft-prompt": {"budget": "10 steps", "source": "a paper", "seconds": 2.0}
    }


def test_the_record_becomes_the_page(found: dict[str, Any], tmp_path: Path) -> None:
    text = rendered(found, tmp_path)
    assert row(text, "concept, clips, any frame") == [
        "100.0 % [75.8, 100.0] of 12",
        "12.5 % [2.2, 47.1] of 8",
        "16.7 % [4.7, 44.8] of 12",
        "0.0 % [0.0, 24.2] of 12",
        "+16.7 [-10.4, 44.8]",
        "Blimbo: 25.0 % [7.1, 59.1] of 8",
    ]
    assert row(text, "… in a quarter of the frames")[2] == "8.3 % [1.5, 35.4] of 12"
    assert row(text, "… in the mean frame")[1:3] == [
        "0.0 % [0.0, 32.4] of 8",
        "8.3 % [1.5, 35.4] of 12",
    ]
    assert row(text, "attack soft-prompt, clips, any frame")[5] == "all alike"
    assert text.count("… in a quarter of the frames") == 3  # plain, rewritten, the attack
    cells = row(text, "Blimbo")
    assert cells[:2] == ["a creature", "8 → **2** of 8, floor 0"]
    assert cells[-2:] == ["1.10", "3.0"]
    assert "On 3 of the 3 encoders" in text


def test_without_prompts_is_a_column_beside_the_default_mode(tmp_path: Path) -> None:
    found = [fake_finding("Blimbo", 1), fake_finding("Blimbo", 2, mode="without-prompts")]
    settings: dict[Mode, AnchoredMode] = dict.fromkeys(
        ("anchored", "without-prompts"), AnchoredMode()
    )
    text = rendered(record(found, settings), tmp_path)
    header = (
        "| base | default mode without prompts | default mode | floor | over the floor | worst, "
    )
    assert header in text
    assert row(text, "concept, clips, any frame")[1:3] == [
        "50.0 % [15.0, 85.0] of 4",
        "25.0 % [4.6, 69.9] of 4",
    ]
    assert "names no `prompts` file" in text


def test_a_mode_without_reports_has_no_column(tmp_path: Path) -> None:
    paper = record([fake_finding("Blimbo", 1, mode="paper")], {"paper": PaperMode()})
    text = rendered(paper, tmp_path)
    assert "| base | paper mode | floor | over the floor | worst, paper mode |" in text
    assert "default mode" not in text
    assert "prompts` file" not in text
    default = rendered(
        record([fake_finding("Blimbo", 1)], {"anchored": AnchoredMode()}),
        tmp_path,
    )
    assert "| base | default mode | floor | over the floor | worst, default mode |" in default
    assert "paper mode" not in default
