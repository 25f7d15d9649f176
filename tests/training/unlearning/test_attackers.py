"""Attackers: they begin where they should, fit beside the prompts, and find what is there."""

import pytest
import torch

from attack_fakes import CONCEPT, painted_base, painted_pictures
from unsee.core.errors import InputError
from unsee.models.base import Base
from unsee.models.encoders.frame import PromptFrame
from unsee.prompts.encoding import encode_vectors, token_table
from unsee.unlearning.anchors import Naming
from unsee.unlearning.attackers import Attackers, free_prompts
from unsee.unlearning.contexts import Contexts, contexts_of, word_ids
from unsee.unlearning.moments import StateReader
from unsee.unlearning.pictures import Pictures

NUM_VECTORS = 3


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return painted_base(tmp_path_factory.mktemp("painted"))


@pytest.fixture(scope="module")
def contexts(painted: Base) -> Contexts:
    return contexts_of(painted, CONCEPT)


@pytest.fixture(scope="module")
def pictures(painted: Base) -> Pictures:
    return painted_pictures(painted, "y")


def _attackers(
    base: Base, pictures: Pictures, frame: PromptFrame, *, count: int = NUM_VECTORS
) -> Attackers:
    prompts = free_prompts(pictures.prompts, count, frame)
    generator = torch.Generator().manual_seed(0)
    return Attackers(base, CONCEPT, prompts, rate=0.2, generator=generator)


def test_free_positions_stand_in_the_name_s_place() -> None:
    frame = PromptFrame(start=(0,), eos=1, pad=2, length=8)
    prompts = free_prompts([Naming((5,), (6,), (7,)), Naming((), (6, 6, 6), ())], 2, frame)
    assert prompts.ids.tolist() == [[0, 5, 0, 0, 7, 1, 2, 2], [0, 0, 0, 1, 2, 2, 2, 2]]
    assert prompts.slots.tolist() == [[2, 3], [1, 2]]


def test_too_many_vectors_are_refused() -> None:
    frame = PromptFrame(start=(0,), eos=1, pad=2, length=8)
    naming = Naming((5, 5), (6,), (7,))
    assert free_prompts([naming], 4, frame).ids.tolist() == [[0, 5, 5, 0, 0, 0, 0, 1]]
    with pytest.raises(InputError, match=r"5 attack vectors do not fit .* 8 tokens"):
        free_prompts([naming], 5, frame)


def test_they_begin_at_the_name_the_mean_and_random_tokens(
    painted: Base, contexts: Contexts, pictures: Pictures
) -> None:
    attackers = _attackers(painted, pictures, contexts.frame)
    table = token_table(painted.text_encoder())
    named, mean, random = (attackers.start(turn, 5).vectors for turn in range(3))
    name = table[list(word_ids(painted, CONCEPT.name))]
    assert torch.equal(named[: len(name)], name)
    assert torch.equal(named[len(name) :], table.mean(0).expand(NUM_VECTORS - len(name), -1))
    assert torch.equal(mean, table.mean(0).expand(NUM_VECTORS, -1))
    assert all((row == table).all(1).any() for row in random)
    assert torch.equal(attackers.start(3, 5).vectors, named)
    assert not torch.equal(attackers.start(5, 5).vectors, random)


def test_states_are_those_of_the_prompts_with_the_vectors(
    painted: Base, contexts: Contexts, pictures: Pictures
) -> None:
    attacker = _attackers(painted, pictures, contexts.frame, count=1).start(0, 5)
    rows = [contexts.frame.framed([*n.before, *n.name, *n.after]) for n in pictures.prompts]
    named = StateReader(painted.text_encoder(), contexts.frame).states(torch.tensor(rows))
    torch.testing.assert_close(attacker.states(), named)
    (gradient,) = torch.autograd.grad(attacker.states()[..., 0].sum(), attacker.vectors)
    assert gradient.any()


@pytest.mark.parametrize("turn", [1, 2])
def test_an_attacker_finds_the_concept_in_an_unedited_encoder(
    painted: Base, contexts: Contexts, pictures: Pictures, turn: int
) -> None:
    attacker = _attackers(painted, pictures, contexts.frame).start(turn, 40)
    prompts = free_prompts(pictures.prompts, NUM_VECTORS, contexts.frame)

    def share() -> float:
        with torch.no_grad():
            embeds = encode_vectors(painted.text_encoder(), prompts, attacker.vectors)
        return pictures.share(embeds)

    before, trials = share(), torch.arange(len(pictures.bank))
    for _ in range(40):
        embeds = encode_vectors(painted.text_encoder(), prompts, attacker.vectors)
        error = pictures.errors(trials, embeds[pictures.rows(trials)]).mean()
        attacker.step(torch.autograd.grad(error, attacker.vectors)[0])
    assert before > 0.5
    assert share() < 0.6 * before
