"""Policies of several concepts: their choice, the matrix of interference and the page."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from finding_fakes import concept_report

from unsee.deltas.composition import Merge
from unsee.deltas.edit import Edit
from unsee.playground.experiments import composition_page
from unsee.playground.experiments.composed_policies import WAYS, concept_sets
from unsee.playground.experiments.composition_page import WHAT_WAYS_ARE, Composed, Composition
from unsee.playground.experiments.interference import Interference, moved


@pytest.fixture
def matrix() -> Interference:
    return Interference(
        names=("Blimbo", "Zorpik", "car"),
        categories=("character", "character", "object"),
        shares=np.array([[1.0, 0.2, 0.01], [0.3, 0.9, 0.02], [0.0, 0.04, 0.8]]),
    )


@pytest.fixture
def composition(matrix: Interference) -> Composition:
    report = concept_report("Blimbo", 1)
    names = ("Blimbo", "car")
    return Composition(
        [Composed("2-concepts", names, way, report, 0.25) for way in ("refit", "joint")], matrix
    )


def test_every_way_is_explained() -> None:
    assert set(WAYS) == {*get_args(Merge), "joint"} <= set(WHAT_WAYS_ARE)


def test_smaller_sets_are_part_of_larger_ones_and_of_all_categories() -> None:
    two, five, ten, together = concept_sets("video")
    assert [len(one.concepts) for one in (two, five, ten, together)] == [2, 5, 10, 12]
    assert set(two.concepts) < set(five.concepts) < set(ten.concepts)
    assert len({concept.category for concept in five.concepts}) == 5
    assert {concept.category for concept in together.concepts} == {"character", "style"}
    assert together.name == "all-characters-and-styles"


def test_no_picture_is_asked_for_an_action() -> None:
    assert all(c.category != "action" for one in concept_sets("image") for c in one.concepts)
    assert [len(one.concepts) for one in concept_sets("image")] == [2, 5, 10, 12]


def test_what_an_edit_moves_is_the_mean_over_the_states() -> None:
    generator = torch.Generator().manual_seed(0)
    up, down = torch.randn(5, 2, generator=generator), torch.randn(2, 5, generator=generator)
    states = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    second = states.T @ states / len(states)
    found = moved(Edit(up, down, torch.zeros(2)), second)
    expected = (states @ (up @ down).double().T).square().sum(-1).mean()
    assert found == pytest.approx(float(expected))


def test_pairs_and_medians_leave_out_the_diagonal(matrix: Interference) -> None:
    assert matrix.pairs()[:2] == [("Zorpik", "Blimbo", 0.3), ("Blimbo", "Zorpik", 0.2)]
    assert len(matrix.pairs()) == 6
    assert matrix.median(siblings=True) == pytest.approx(0.25)
    assert matrix.median(siblings=False) == pytest.approx(0.015)
    alone = Interference(("car",), ("object",), np.ones((1, 1)))
    assert math.isnan(alone.median(siblings=True))


def test_the_page_has_a_row_per_way_and_the_worst_pairs(composition: Composition) -> None:
    text = composition_page.page(composition)
    assert "| 2-concepts | `joint` | 100.0 % [67.6, 100.0] of 8 | 25.0 % [7.1, 59.1] of 8 |" in text
    assert "| 75.0 % [30.1, 95.4] of 4 | – | 1.10 | 0.25 |" in text
    assert "- 2-concepts: Blimbo, car" in text
    assert text.count("\n## ") == 2, "one for the media, one for the interference"
    assert "forgetting Zorpik moves what names Blimbo by 30.0 %" in text
    assert "an edit moves 0.90 (0.80 to 1.00)" in text


def test_record_and_heat_map_are_complete(composition: Composition, tmp_path: Path) -> None:
    composition_page.write(composition, tmp_path)
    record = json.loads((tmp_path / "composition.json").read_text())
    assert record["policies"][0]["erased"]["tuned"]["hits"] == 2
    assert record["interference"]["shares"][1] == [0.3, 0.9, 0.02]
    heat_map = (tmp_path / "interference.svg").read_bytes()
    ElementTree.fromstring(heat_map)
    composition_page.write(composition, tmp_path)
    assert (tmp_path / "interference.svg").read_bytes() == heat_map
