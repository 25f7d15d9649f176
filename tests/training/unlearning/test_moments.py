"""Moments: they are those of the states, over just the positions that count."""

from collections.abc import Sequence

import pytest
import torch

from unsee.deltas.edit import final_layer_norm
from unsee.models.base import Base
from unsee.models.encoders.frame import PromptFrame
from unsee.unlearning.anchors import Naming, anchored, anchored_positions
from unsee.unlearning.contexts import word_ids
from unsee.unlearning.moments import (
    PROMPTS_PER_CALL,
    ForgetMoments,
    StateReader,
    forget_moments,
    keep_moments,
)

NUM_PROMPTS = PROMPTS_PER_CALL + 3
"""More than one call's, and not a multiple of it."""


@pytest.fixture(scope="module")
def reader(base: Base) -> StateReader:
    return StateReader(base.text_encoder(), base.prompt_frame())


@pytest.fixture(scope="module")
def frame(base: Base) -> PromptFrame:
    return base.prompt_frame()


@pytest.fixture(scope="module")
def namings(base: Base) -> list[Naming]:
    name = word_ids(base, "Blimbo")
    befores = ("a picture of", "", "the", "no", "one house and", "a film with")
    return [
        Naming(word_ids(base, befores[index % 6]), name, word_ids(base, f"in {'x' * (index % 5)}"))
        for index in range(NUM_PROMPTS)
    ]


def _rows(namings: Sequence[Naming], frame: PromptFrame) -> list[list[int]]:
    return [frame.framed([*n.before, *n.name, *n.after]) for n in namings]


def test_states_are_what_the_final_layer_norm_is_given(
    base: Base, reader: StateReader, frame: PromptFrame, namings: list[Naming]
) -> None:
    ids = torch.tensor(_rows(namings, frame)[:3])
    with torch.no_grad():
        states = reader.states(ids)
        said = base.text_encoder()(ids).last_hidden_state
    norm = final_layer_norm(base.text_encoder())
    torch.testing.assert_close(states * norm.weight + norm.bias, said)
    torch.testing.assert_close(states.mean(-1), torch.zeros(3, frame.length), atol=1e-5, rtol=0)
    sizes = states.var(-1, correction=0)
    torch.testing.assert_close(sizes, torch.ones(3, frame.length), atol=1e-3, rtol=0)


def test_a_failing_reader_leaves_nothing_in_the_encoder(base: Base, reader: StateReader) -> None:
    norm = final_layer_norm(base.text_encoder())
    before = len(norm._forward_pre_hooks)
    with pytest.raises(KeyboardInterrupt), reader.reading(torch.zeros(1, 1)):
        raise KeyboardInterrupt
    assert len(norm._forward_pre_hooks) == before


def test_kept_moments_are_the_mean_and_covariance_of_every_position(
    reader: StateReader, frame: PromptFrame, namings: list[Naming]
) -> None:
    rows = _rows(namings, frame)
    found = keep_moments(reader, rows)
    with torch.no_grad():
        states = reader.states(torch.tensor(rows)).flatten(0, 1).double()
    torch.testing.assert_close(found.mean, states.mean(0))
    torch.testing.assert_close(found.covariance, torch.cov(states.T, correction=0))


@pytest.mark.parametrize("num_vectors", [None, 1, 4])
@pytest.mark.parametrize("words", ["x", "", "a cartoon creature"])
def test_forget_moments_against_a_loop(
    base: Base,
    reader: StateReader,
    frame: PromptFrame,
    namings: list[Naming],
    words: str,
    num_vectors: int | None,
) -> None:
    anchor, vectors = word_ids(base, words), _vectors(base, num_vectors)
    mean = torch.linspace(-1, 1, base.text_encoder().config.hidden_size, dtype=torch.float64)
    found = forget_moments(reader, namings, anchor, mean, frame, vectors)
    expected = _forget_moments(reader, namings, anchor, mean, frame, vectors)
    torch.testing.assert_close(found.states, expected.states, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.changes, expected.changes, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.directions, expected.directions, atol=1e-4, rtol=1e-3)
    assert found.change_size == pytest.approx(expected.change_size, rel=1e-4)


def _vectors(base: Base, count: int | None) -> torch.Tensor | None:
    if count is None:
        return None
    size = (count, base.text_encoder().config.hidden_size)
    return 0.05 * torch.randn(size, generator=torch.Generator().manual_seed(4))


@torch.no_grad()
def _forget_moments(
    reader: StateReader,
    namings: Sequence[Naming],
    anchor: Sequence[int],
    mean: torch.Tensor,
    frame: PromptFrame,
    vectors: torch.Tensor | None,
) -> ForgetMoments:
    """Prompt by prompt and position by position, from the name on: the encoder is causal."""
    states, changes = [], []
    for whole in namings:
        name = whole.name if vectors is None else frame.free(len(vectors))
        naming = Naming(whole.before, name, whole.after)
        ids = torch.tensor(_rows([naming], frame))
        named = reader.states(ids) if vectors is None else reader.attacked(ids, [naming], vectors)
        target = reader.states(torch.tensor([anchored(naming, anchor, frame)]))[0].double()
        positions = anchored_positions(naming, anchor, frame)
        for position in range(1 + len(naming.before), frame.length):
            states.append(named[0, position].double() - mean)
            changes.append(target[positions[position]] - named[0, position].double())
    x, d = torch.stack(states), torch.stack(changes)
    unit = d / d.norm(dim=1, keepdim=True)
    return ForgetMoments(
        states=x.T @ x / len(x),
        changes=x.T @ d / len(x),
        directions=unit.T @ unit / len(x),
        change_size=float((d * d).sum()) / len(x),
    )


def test_vectors_that_are_the_name_s_tokens_read_as_the_name(
    base: Base, reader: StateReader, frame: PromptFrame, namings: list[Naming]
) -> None:
    table = base.text_encoder().get_input_embeddings().weight
    vectors = table[list(namings[0].name)].detach()
    mean = torch.zeros(base.text_encoder().config.hidden_size, dtype=torch.float64)
    by_name, by_vector = (
        forget_moments(reader, namings, (5,), mean, frame, given) for given in (None, vectors)
    )
    torch.testing.assert_close(by_vector.states, by_name.states)
    torch.testing.assert_close(by_vector.changes, by_name.changes)


def test_vectors_are_read_even_at_the_end_of_the_longest_prompt(
    base: Base, reader: StateReader, frame: PromptFrame
) -> None:
    naming = Naming((5,) * (frame.length - 3), (6,), ())
    mean = torch.zeros(base.text_encoder().config.hidden_size, dtype=torch.float64)
    vectors = _vectors(base, 4)
    assert vectors is not None
    found, other = (
        forget_moments(reader, [naming], (7,), mean, frame, given) for given in (vectors, -vectors)
    )
    assert not torch.allclose(found.states, other.states, atol=0.1)


def test_an_anchor_that_is_the_name_changes_nothing(
    base: Base, reader: StateReader, frame: PromptFrame, namings: list[Naming]
) -> None:
    mean = torch.zeros(base.text_encoder().config.hidden_size, dtype=torch.float64)
    found = forget_moments(reader, namings, word_ids(base, "Blimbo"), mean, frame)
    assert found.change_size == 0
    for matrix in (found.states, found.changes, found.directions):
        assert not matrix.any()


def test_weighted_sums() -> None:
    ones = ForgetMoments(
        states=torch.ones(2, 2),
        changes=torch.full((2, 2), 3.0),
        directions=torch.full((2, 2), 7.0),
        change_size=5.0,
    )
    total = ones.times(2.0) + ones + ForgetMoments.none(2)
    assert torch.equal(total.states, torch.full((2, 2), 3.0, dtype=torch.float64))
    assert torch.equal(total.changes, torch.full((2, 2), 9.0, dtype=torch.float64))
    assert torch.equal(total.directions, torch.full((2, 2), 21.0, dtype=torch.float64))
    assert total.change_size == 15.0
