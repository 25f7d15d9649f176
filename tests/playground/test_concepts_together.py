"""Policies of several concepts: their choice, and what an edit moves."""

from __future__ import annotations

import pytest
import torch

from unsee.deltas.edit import Edit
from unsee.playground.experiments.composed_policies import concept_sets
from unsee.playground.experiments.interference import moved


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
