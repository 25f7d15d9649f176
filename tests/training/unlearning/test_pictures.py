"""The yardstick: 0 is the concept, 1 is the anchor, and it says when it cannot tell them apart."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from attack_fakes import CONCEPT, NUM_IMAGES, World, painted_base, painted_pictures
from unsee.models.base import Base
from unsee.prompts.encoding import encode_ids
from unsee.prompts.templates import prompts_around
from unsee.unlearning.anchors import ANCHORS, anchored
from unsee.unlearning.contexts import contexts_of, word_ids
from unsee.unlearning.pictures import NUM_TRIALS, Pictures, Scale, pictures_of


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return painted_base(tmp_path_factory.mktemp("painted"))


@pytest.fixture(scope="module")
def pictures(painted: Base) -> Pictures:
    return painted_pictures(painted, None)


def _embeds(base: Base, rows: Sequence[Sequence[int]]) -> torch.Tensor:
    with torch.no_grad():
        return encode_ids(base.text_encoder(), torch.tensor(rows))


def _named(base: Base, pictures: Pictures) -> torch.Tensor:
    frame = contexts_of(base, CONCEPT).frame
    rows = [frame.framed([*n.before, *n.name, *n.after]) for n in pictures.prompts]
    return _embeds(base, rows)


def _anchored(base: Base, pictures: Pictures) -> torch.Tensor:
    frame = contexts_of(base, CONCEPT).frame
    anchor = word_ids(base, pictures.anchor)
    return _embeds(base, [anchored(naming, anchor, frame) for naming in pictures.prompts])


@pytest.mark.parametrize("anchor", [None, "y", ""])
def test_the_concept_is_0_and_the_anchor_1(painted: Base, anchor: str | None) -> None:
    pictures = painted_pictures(painted, anchor)
    assert pictures.scale.is_clear
    named, shown = _named(painted, pictures), _anchored(painted, pictures)
    assert pictures.share(named) == pytest.approx(0, abs=1e-5)
    assert pictures.share(shown) == pytest.approx(1, abs=1e-5)
    assert pictures.share(named, 32) == pytest.approx(0, abs=1e-5)
    between = [pictures.share(torch.lerp(named, shown, share)) for share in (0.0, 0.5, 1.0)]
    assert all(before < after for before, after in pairwise(between))


def test_without_an_anchor_it_is_the_category_s(painted: Base, pictures: Pictures) -> None:
    assert pictures.anchor == ANCHORS[CONCEPT.category]
    given = painted_pictures(painted, ANCHORS[CONCEPT.category])
    assert torch.equal(given.scale.anchor, pictures.scale.anchor)
    assert painted_pictures(painted, "y").anchor == "y"


def test_every_picture_keeps_its_own_prompt(painted: Base, pictures: Pictures) -> None:
    assert len(pictures.prompts) == NUM_IMAGES
    trials = torch.arange(NUM_TRIALS)
    rows = pictures.rows(trials)
    assert torch.equal(rows, pictures.bank.pictures)
    assert set(rows.tolist()) == set(range(NUM_IMAGES))
    named = _named(painted, pictures)
    own = pictures.errors(trials, named[rows])
    torch.testing.assert_close(own, pictures.scale.concept)
    assert pictures.errors(trials, named[(rows + 1) % NUM_IMAGES]).mean() > own.mean()


def test_more_pictures_than_templates_share_prompts(painted: Base) -> None:
    prompts = prompts_around(CONCEPT.name, CONCEPT.category)
    world, generator = World(painted), torch.Generator().manual_seed(0)
    images = [world.paint(prompts[index % len(prompts)]) for index in range(len(prompts) + 2)]
    contexts = contexts_of(painted, CONCEPT)
    found = pictures_of(painted, CONCEPT, images, contexts, "y", generator)
    assert found.prompts == contexts.named[: len(prompts)]
    assert int(found.rows(torch.arange(NUM_TRIALS)).max()) == len(prompts) - 1


def test_errors_have_a_gradient(painted: Base, pictures: Pictures) -> None:
    embeds = _named(painted, pictures)[:1].requires_grad_(True)
    (gradient,) = torch.autograd.grad(pictures.errors(torch.tensor([5]), embeds).sum(), embeds)
    assert gradient.any()


def test_the_seed_decides_the_bank(painted: Base, pictures: Pictures) -> None:
    def bank(seed: int) -> torch.Tensor:
        return painted_pictures(painted, None, seed).bank.noise

    assert torch.equal(bank(0), pictures.bank.noise)
    assert not torch.equal(bank(1), pictures.bank.noise)


def test_pictures_that_do_not_tell_the_two_apart_are_not_clear(painted: Base) -> None:
    pictures = painted_pictures(painted, CONCEPT.name)
    assert pictures.scale.gap == pytest.approx(0, abs=1e-6)
    assert not pictures.scale.is_clear


def test_a_gap_is_clear_from_three_standard_errors_on() -> None:
    concept = torch.zeros(100)
    noise = torch.tensor([1.0, -1.0]).repeat(50)
    error = float(noise.std()) / 10
    assert Scale(concept, noise + 3.1 * error).is_clear
    assert not Scale(concept, noise + 2.9 * error).is_clear
    assert not Scale(concept, noise - 3.1 * error).is_clear


def test_a_share_is_in_units_of_the_whole_bank() -> None:
    scale = Scale(concept=torch.tensor([1.0, 2.0, 3.0, 4.0]), anchor=torch.tensor([2.0] * 4) + 3)
    trials = torch.tensor([2, 0])
    errors = torch.tensor([3.0, 6.0])
    assert scale.gap == 2.5
    assert float(scale.share(errors, trials)) == pytest.approx((0 + 5) / 2 / 2.5)
    changed: Any = replace(scale, anchor=scale.anchor + 2.5)
    assert float(changed.share(errors, trials)) == pytest.approx((0 + 5) / 2 / 5)
