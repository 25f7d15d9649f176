"""Each attack finds a concept that was only hidden, and finds nothing where there is nothing."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from recogniser_fakes import Bright

from attack_fakes import CONCEPT, NAME, OTHER, World, painted_base
from unsee.core.errors import InputError
from unsee.core.policy import Concept
from unsee.evaluation.attacks import (
    ATTACKS,
    Attack,
    Attacked,
    BenignRelearning,
    BlackBoxSearch,
    ConceptVector,
    PromptSearch,
    SmoothedSoftPrompt,
    SoftPrompt,
)
from unsee.evaluation.attacks.black_box import Search, look_through
from unsee.evaluation.attacks.runs import Assault, Side, run_assault
from unsee.evaluation.attacks.search_vocabulary import search_vocabulary
from unsee.images.denoising import load_denoising
from unsee.images.trials import compared_losses, draw_trials
from unsee.models.digest import tensors_digest
from unsee.prompts.encoding import (
    encode_ids,
    encode_prompts,
    encode_vectors,
    prompt_ids,
    slotted_prompts,
    token_table,
)
from unsee.prompts.naming import Names

SOFT = SoftPrompt(start_steps=10, steps=60)
SEARCH = PromptSearch(num_tokens=2)
RELEARNING = BenignRelearning(steps=60, learning_rate=2e-3)
QUICK: tuple[Attack, ...] = (
    SoftPrompt(starts=2, start_steps=2, steps=3, held_out=4),
    ConceptVector(etas=(1.0, 2.0), trials=4),
    PromptSearch(num_tokens=2, steps=3, candidates=4, trials=4),
    BenignRelearning(steps=3, learning_rate=1e-3),
    SmoothedSoftPrompt(starts=2, start_steps=2, steps=3, held_out=4, directions=2),
)
each_attack = pytest.mark.parametrize("attack", QUICK, ids=lambda attack: attack.name)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(painted_base(tmp_path_factory.mktemp("painted")))


def brought_back(world: World, attack: Attack, text_encoder: Any, seed: int = 0) -> float:
    return world.shown(attack.run(world.victim(text_encoder), 6, seed).prompt_embeds)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_soft_prompt_finds_a_concept_whose_word_was_swapped(world: World, seed: int) -> None:
    hidden = world.swapped()
    assert world.asked(hidden) < 0
    assert brought_back(world, replace(SOFT, start_steps=0, steps=0), hidden, seed) < 0
    attacked = SOFT.run(world.victim(hidden), 6, seed)
    assert world.shown(attacked.prompt_embeds) > 0.75
    assert attacked.prompts[:2] == ("<soft 4 vectors> a", "<soft 4 vectors> b c")


class Steps(torch.nn.Module):
    """A norm that rounds what it says: nearly the same states, and no gradient anywhere."""

    def __init__(self, norm: torch.nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return torch.round(self.norm(states) / 0.01) * 0.01


def test_a_concept_behind_vanished_gradients_is_hidden_and_not_erased(world: World) -> None:
    """The plain soft prompt learns nothing there; the smoothed one needs no gradient."""
    hidden = world.swapped()
    hidden.final_layer_norm = Steps(hidden.final_layer_norm)
    plain = replace(SOFT, starts=2, start_steps=0, steps=60)
    smoothed = SmoothedSoftPrompt(starts=2, start_steps=0, steps=60, directions=16)
    found = brought_back(world, plain, hidden)
    assert found == pytest.approx(brought_back(world, replace(plain, steps=0), hidden), abs=0.02)
    assert brought_back(world, smoothed, hidden) > found + 0.2


def test_a_concept_vector_amplifies_what_is_left(world: World) -> None:
    hidden = world.faded(0.1)
    assert world.asked(hidden) < 0.2
    assert brought_back(world, ConceptVector(), hidden) > 0.35
    once = ConceptVector(etas=(1.0,))
    assert brought_back(world, once, hidden) == pytest.approx(world.asked(hidden), abs=0.05)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_search_finds_the_word_that_the_concept_was_moved_to(world: World, seed: int) -> None:
    hidden = world.swapped()
    attacked = SEARCH.run(world.victim(hidden), 6, seed)
    assert OTHER in attacked.prompts[0].split()
    assert world.shown(attacked.prompt_embeds) > 0.2 > 0 > world.asked(hidden)


def test_relearning_repairs_what_threw_all_prompts_off(world: World) -> None:
    hidden = world.shifted()
    before = world.asked(hidden)
    assert before < -10
    assert brought_back(world, replace(RELEARNING, steps=0), hidden) == pytest.approx(before)
    assert brought_back(world, RELEARNING, hidden) > -1


@pytest.mark.parametrize("attack", [SOFT, ConceptVector(), SEARCH], ids=lambda attack: attack.name)
def test_nothing_is_found_in_an_encoder_that_says_nothing(world: World, attack: Attack) -> None:
    mute = world.mute()
    assert brought_back(world, attack, mute) == pytest.approx(world.asked(mute), rel=1e-4)


def test_a_concept_vector_finds_nothing_where_nothing_is_left(world: World) -> None:
    assert brought_back(world, ConceptVector(), world.faded(0.0)) < 0.1


def test_a_benign_fine_tuning_does_not_teach_a_word_that_was_moved(world: World) -> None:
    hidden = world.swapped()
    assert world.asked(hidden) < 0
    assert brought_back(world, RELEARNING, hidden) < 0.3


@each_attack
def test_what_it_hands_over(world: World, attack: Attack) -> None:
    steps: list[tuple[int, int]] = []
    hidden = world.swapped()
    attacked = attack.run(world.victim(hidden), 8, 0, lambda *step: steps.append(step))
    length, width = hidden.config.max_position_embeddings, hidden.config.hidden_size
    assert attacked.prompt_embeds.shape == (8, length, width)
    assert attacked.negative_prompt_embeds.shape == (1, length, width)
    assert attacked.prompt_embeds.dtype == attacked.negative_prompt_embeds.dtype == torch.float32
    assert not attacked.prompt_embeds.requires_grad
    assert not attacked.negative_prompt_embeds.requires_grad
    assert len(attacked.prompts) == 8
    total = steps[-1][1]
    assert steps == [(step, total) for step in range(1, total + 1)]


@each_attack
def test_it_leaves_victim_and_base_as_they_were(world: World, attack: Attack) -> None:
    hidden, own = world.swapped(), world.base.text_encoder()
    before = [tensors_digest(encoder.state_dict()) for encoder in (hidden, own)]
    attack.run(world.victim(hidden), 2, 0)
    assert [tensors_digest(encoder.state_dict()) for encoder in (hidden, own)] == before
    for module in (hidden, own, world.painter):
        assert not any(part._forward_hooks for part in module.modules())
        assert all(parameter.grad is None for parameter in module.parameters())


def test_one_encoder_that_is_both_sides_is_attacked_once(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack, runs = QUICK[1], []

    def run(self: Attack, *args: Any) -> Attacked:
        runs.append(self)
        return original(self, *args)

    original = type(attack).run
    monkeypatch.setattr(type(attack), "run", run)

    def attacked(side: Side, text_encoder: Any) -> torch.Tensor:
        digest = tensors_digest(text_encoder.state_dict())
        assault = Assault(attack, world.victim(text_encoder), side, digest, 2, 0)
        return run_assault(assault, tmp_path, lambda *step: None)[0].prompt_embeds

    own = world.base.text_encoder()
    assert torch.equal(attacked("tuned", own), attacked("base", own))
    assert len(runs) == 1
    attacked("tuned", world.swapped())
    assert len(runs) == 2


@each_attack
def test_the_seed_decides_every_bit(world: World, attack: Attack) -> None:
    def embeds(seed: int) -> torch.Tensor:
        torch.rand(3)  # the global generator must not matter
        return attack.run(world.victim(world.swapped()), 2, seed).prompt_embeds

    assert torch.equal(embeds(0), embeds(0))


def test_the_hook_goes_even_when_the_encoder_fails(world: World) -> None:
    encoder = world.encoder()
    prompts = slotted_prompts(world.base, [("a", "b")], 2)
    with pytest.raises(RuntimeError):
        encode_vectors(encoder, prompts, torch.zeros(2, 7))  # not the encoder's width
    assert not encoder.get_input_embeddings()._forward_hooks


def test_a_tokens_own_row_as_a_vector_changes_nothing(world: World) -> None:
    base, encoder = world.base, world.encoder()
    prompts = slotted_prompts(base, [("a", "b"), ("", "c d e")], 2)
    ids = base.tokenizer()("m n", add_special_tokens=False).input_ids
    as_vectors = encode_vectors(encoder, prompts, token_table(encoder)[ids])
    as_text = encode_prompts(base, encoder, ["a m n b", "m n c d e"])
    torch.testing.assert_close(as_vectors, as_text)
    filled = prompts.filled(torch.tensor([ids, ids[::-1]]))
    assert torch.equal(filled[0], prompt_ids(base, ["a m n b", "m n c d e"]))
    torch.testing.assert_close(encode_ids(encoder, filled)[0], as_text)


def test_too_many_vectors_are_refused(world: World) -> None:
    with pytest.raises(InputError, match="use fewer vectors"):
        slotted_prompts(world.base, [("a" * 20, "")], 40)


def test_compared_losses_are_those_of_training(world: World) -> None:
    frozen = load_denoising(world.base)
    generator = torch.Generator().manual_seed(0)
    trials = draw_trials(frozen, torch.randn(3, 3, 8, 8, generator=generator), 7, generator)
    embeds = encode_prompts(world.base, world.encoder(), [f"{NAME} a"] * 7)
    candidates = torch.stack([embeds, 2 * embeds])
    losses = compared_losses(frozen, trials, candidates)
    for loss, candidate in zip(losses, candidates, strict=True):
        expected = frozen.loss(trials.latents, trials.noise, trials.levels, candidate)
        torch.testing.assert_close(loss, expected)


def test_trials_cover_the_noise_window_and_every_picture(world: World) -> None:
    frozen = load_denoising(world.base)
    generator = torch.Generator().manual_seed(0)
    trials = draw_trials(frozen, torch.zeros(4, 3, 8, 8), 16, generator, (0.2, 1.0))
    bounds = [(200 + 50 * part, 250 + 50 * part) for part in range(16)]
    timesteps = trials.levels.tolist()
    assert all(low <= t < high for t, (low, high) in zip(timesteps, bounds, strict=True))
    assert trials.pictures.bincount().tolist() == [4, 4, 4, 4]


def test_no_name_and_no_special_token_is_searched(world: World) -> None:
    concept = Concept(name="Q Zebra", category="object", aliases=("m",))
    vocabulary = search_vocabulary(world.base, concept)
    tokenizer = world.base.tokenizer()
    named = {i for name in (concept.name, *concept.aliases) for i in tokenizer(name).input_ids}
    assert not named & set(vocabulary.ids.tolist())
    assert not set(tokenizer.all_special_ids) & set(vocabulary.ids.tolist())
    assert {"q", "m"}.isdisjoint(vocabulary.words)
    assert {"v", "b"} <= set(vocabulary.words)


def test_found_words_are_read_back_as_the_tokens_that_were_searched(world: World) -> None:
    vocabulary = search_vocabulary(world.base, CONCEPT)
    chosen = torch.tensor([3, 1, len(vocabulary.words) - 1])
    text = vocabulary.text(chosen)
    ids = world.base.tokenizer()(text, add_special_tokens=False).input_ids
    assert ids == vocabulary.ids[chosen].tolist()


def test_a_prompt_that_names_the_concept_is_not_plain(world: World) -> None:
    concept = Concept(name="Car", category="object", aliases=("automobile",))
    names = Names.of(world.base, concept)
    names.check_unnamed(["a scary carpet"])
    for prompt in ("a red car.", "an AUTOMOBILE at night"):
        with pytest.raises(InputError, match="names it"):
            names.check_unnamed([prompt])
    named = replace(world.victim(world.encoder()), plain_prompts=world.concept_prompts)
    with pytest.raises(InputError, match="names it"):
        ConceptVector().run(named, 1, 0)


def test_the_vectors_take_the_names_place(world: World) -> None:
    cup = Names.of(world.base, Concept(name="cup", category="object", aliases=("mug", "red mug")))
    assert cup.around("a Cup in the sea") == ("a ", " in the sea")
    assert cup.around("a red mug, a mug") == ("a ", ", a ")
    assert cup.around("two cups") == ("", "two cups")


@pytest.mark.parametrize(
    ("attack", "missing"),
    [
        (SoftPrompt(), "images"),
        (ConceptVector(), "concept_prompts"),
        (PromptSearch(), "images"),
        (BenignRelearning(), "unrelated"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_victim_without_what_an_attack_needs(world: World, attack: Attack, missing: str) -> None:
    change: dict[str, Any] = {missing: ()}
    with pytest.raises(InputError, match=missing):
        attack.run(replace(world.victim(world.encoder()), **change), 1, 0)


class Service:
    """What a caller of the world's service sees of the concept; it counts the clips."""

    def __init__(self, world: World, text_encoder: Any) -> None:
        self._world, self._text_encoder, self.prompts = world, text_encoder, list[str]()

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> NDArray[np.float64]:
        self.prompts += prompts
        embeds = encode_prompts(self._world.base, self._text_encoder, prompts)
        shown = [self._world.shown(embeds[row : row + 1]) for row in range(len(prompts))]
        return 1 / (1 + np.exp(-np.array(shown)))


def test_a_search_that_sees_only_clips_finds_the_word_that_the_concept_was_moved_to(
    world: World,
) -> None:
    hidden = world.swapped()
    service = Service(world, hidden)
    victim = replace(world.victim(hidden), images=(), unrelated=(), look=service)
    search = BlackBoxSearch(clips=96, num_words=3)
    found = search.run(victim, 6, 0)
    assert world.asked(hidden) < 0
    assert world.shown(found.prompt_embeds) > world.asked(hidden)
    assert OTHER in found.prompts[0].split()
    assert len(service.prompts) == 96
    again = search.run(replace(victim, look=Service(world, hidden)), 6, 0)
    assert again.prompts == found.prompts


def test_a_search_looks_at_as_many_clips_as_it_may_and_trusts_no_single_one() -> None:
    drawn: list[str] = []

    def look(prompts: Sequence[str], seeds: Sequence[int]) -> NDArray[np.float64]:
        drawn.extend(prompts)
        return np.array([score(one) for one in prompts])

    def score(prompt: str) -> float:
        if "good" in prompt:
            return 0.6
        return 0.9 if "lucky" in prompt and drawn.count(prompt) == 1 else 0.0

    search = Search(look, ["it"], ["lucky", "good", "dull"], 1, np.random.default_rng(0))
    ticks: list[int] = []
    assert search.run(40, lambda: ticks.append(1)) == ("good",)
    assert len(drawn) == len(ticks) == 40
    assert len(search.scores["lucky",]) > 1


@pytest.mark.parametrize("clips", [1, 2, 3, 4])
def test_a_search_may_be_as_small_as_a_single_clip(world: World, clips: int) -> None:
    service = Service(world, world.encoder())
    victim = replace(world.victim(world.encoder()), look=service)
    found = BlackBoxSearch(clips=clips).run(victim, 1, 0)
    assert len(service.prompts) == clips
    assert found.prompts[0].endswith(victim.concept_prompts[0])


def test_a_running_service_is_looked_at_through_its_client() -> None:
    asked: list[tuple[str, int]] = []

    def generate(prompt: str, seed: int) -> NDArray[np.uint8]:
        asked.append((prompt, seed))
        return np.full((4, 8, 8, 3), 255 if "bright" in prompt else 0, np.uint8)

    look = look_through(generate, Bright(), CONCEPT)
    assert look(["a bright sea", "the sea"], [3, 4]).tolist() == [1, 0]
    assert asked == [("a bright sea", 3), ("the sea", 4)]


def test_a_victim_whose_clips_cannot_be_seen_is_not_searched(world: World) -> None:
    with pytest.raises(InputError, match="whose clips can be seen"):
        BlackBoxSearch().run(world.victim(world.encoder()), 1, 0)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_a_budget_of_once_is_the_usual_one_and_more_is_more(attack: Attack) -> None:
    assert attack.at(1) == attack
    budgets = [attack.at(times) for times in (1, 4, 16)]
    assert [one.times for one in budgets] == [1, 4, 16]
    assert len({one.budget() for one in budgets}) == 3
    assert all(one.reach == attack.reach for one in budgets)


def test_what_a_multiple_of_the_budget_buys() -> None:
    soft = SoftPrompt().at(4)
    assert (soft.num_vectors, soft.starts, soft.steps) == (8, 6, 300)
    assert SoftPrompt().at(16).num_vectors == 8
    search = PromptSearch().at(16)
    assert (search.num_tokens, search.steps) == (8, 160)
    vector = ConceptVector(etas=(1.0, 4.0, 16.0), trials=8).at(4)
    assert vector.etas == pytest.approx((1, 2, 4, 8, 16))
    assert vector.trials == 19
    assert BenignRelearning().at(4).steps == 128
    assert BlackBoxSearch().at(16).clips == 512


@pytest.mark.parametrize("times", [2, 4, 16])
def test_a_multiple_of_the_budget_is_one_of_all_that_is_spent(times: int) -> None:
    def steps(soft: SoftPrompt) -> int:
        return soft.starts * soft.start_steps + soft.steps

    def trials(vector: ConceptVector) -> int:
        return len(vector.etas) * vector.trials

    assert steps(SoftPrompt().at(times)) == times * steps(SoftPrompt())
    assert trials(ConceptVector().at(times)) == pytest.approx(times * trials(ConceptVector()), 0.02)


def test_every_attack_states_its_source_and_budget() -> None:
    assert len({attack.name for attack in ATTACKS}) == 5
    for attack in ATTACKS:
        assert "arXiv" in attack.source
        assert "\n" not in attack.budget()
        assert any(character.isdigit() for character in attack.budget())
