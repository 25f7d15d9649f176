"""Anchored mode: the concept goes, the rest stays, and it can be interrupted anywhere."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from attack_fakes import CONCEPT, World, painted_base
from unsee.core.errors import InputError
from unsee.core.policy import Concept
from unsee.core.unlearning_settings import AnchoredMode
from unsee.deltas.composition import compose
from unsee.deltas.delta import Delta
from unsee.deltas.edit import is_edit
from unsee.models.base import Base, load_base
from unsee.prompts.encoding import encode_prompts
from unsee.prompts.templates import prompts_around
from unsee.unlearning import anchored_mode
from unsee.unlearning.anchored_mode import learn_edit
from unsee.unlearning.anchors import ANCHORS
from unsee.unlearning.estimate import Estimate, Learned
from unsee.unlearning.moments import KeepMoments
from unsee.unlearning.unlearn import unlearn

QUICK = AnchoredMode(
    rank=8,
    kept_at_least=0.85,
    attackers=3,
    attack_steps=4,
    erased_at_least=50.0,  # more than there is, so that every attacker is met
    prompts_to_forget=60,
    prompts_to_keep=80,
    anchor="y",
)


class Memory:
    """A checkpoint in memory; what is saved later does not change what was saved before."""

    def __init__(self, state: dict[str, torch.Tensor] | None = None) -> None:
        self.saved: list[dict[str, torch.Tensor]] = []
        self._state = state

    def load(self) -> dict[str, torch.Tensor] | None:
        return self._state

    def save(self, tensors: dict[str, torch.Tensor]) -> None:
        self.saved.append(tensors)


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Base:
    base = painted_base(tmp_path_factory.mktemp("painted"))
    prompts = tmp_path_factory.mktemp("asked") / "prompts.txt"
    words = [f"{a} {b} {c}" for a in "abcdefgh" for b in "mnop" for c in ("st", "uv")]
    prompts.write_text("\n".join(words))
    return replace(base, spec=base.spec.model_copy(update={"prompts": str(prompts)}))


@pytest.fixture(scope="module")
def pictures(painted: Base) -> list[Image.Image]:
    prompts = prompts_around(CONCEPT.name, CONCEPT.category)[:4]
    return [World(painted).paint(prompt) for prompt in prompts]


@pytest.fixture(scope="module")
def learn(painted: Base, pictures: list[Image.Image]) -> Callable[..., Learned]:
    def run(settings: AnchoredMode = QUICK, *, seed: int = 0, **options: Any) -> Learned:
        generator = torch.Generator().manual_seed(seed)
        options = {"progress": None, "checkpoint": None} | options
        return learn_edit(painted, CONCEPT, pictures, settings, generator, **options)

    return run


@pytest.fixture(scope="module")
def delta(painted: Base, pictures: list[Image.Image]) -> Delta:
    return unlearn(painted, CONCEPT, pictures, QUICK, 0)


def _same(left: Learned, right: Learned) -> bool:
    tensors = zip(left.tensors.values(), right.tensors.values(), strict=True)
    return left.losses == right.losses and all(torch.equal(a, b) for a, b in tensors)


def test_the_concept_goes_and_the_rest_stays(painted: Base, delta: Delta) -> None:
    world = World(painted, ("a picture of {}", "an image of {}", "{} in a b", "c d {}"))
    edited = compose(painted.text_encoder(), [delta])
    assert world.asked(painted.text_encoder()) == pytest.approx(1)
    assert world.asked(edited) < 0.3

    def distance(prompts: list[str]) -> float:
        before, after = (
            encode_prompts(painted, encoder, prompts)
            for encoder in (painted.text_encoder(), edited)
        )
        return float((after - before).square().sum() / (before - before.mean(0)).square().sum())

    assert distance(["b n st", "g p uv", "e m"]) < 0.5 * distance(["q", "q b n", "a q"])


def test_the_card_tells_how_it_went(delta: Delta) -> None:
    card = delta.card
    assert is_edit(delta.tensors)
    rank, size = delta.tensors["edit.down"].shape
    assert 1 < rank <= 8
    assert size == 32
    assert (card.method, card.anchor, card.settings) == ("anchored", "y", replace(QUICK, shots=4))
    assert len(card.losses) == 3
    assert "directions were removed" in card.stopped
    assert "all 3 attackers were met" in card.stopped
    assert card.erased is not None
    assert card.kept is not None
    assert card.erased > 0.3
    assert 0.85 <= card.kept < 1


def test_progress_counts_to_the_total_and_ends_at_the_card(learn: Callable[..., Learned]) -> None:
    told: list[Estimate] = []
    learned = learn(progress=told.append)
    assert [(estimate.step, estimate.total) for estimate in told] == [(1, 3), (2, 3), (3, 3)]
    assert tuple(estimate.loss for estimate in told) == learned.losses
    assert (told[-1].erased, told[-1].kept) == (learned.erased, learned.kept)


def test_it_repeats_and_depends_on_its_seed_alone(learn: Callable[..., Learned]) -> None:
    first = learn()
    torch.rand(7)  # the global generator must not matter
    assert _same(learn(), first)
    assert not _same(learn(seed=1), first)


def test_resumed_from_any_checkpoint_it_ends_the_same(learn: Callable[..., Learned]) -> None:
    whole = Memory()
    expected = learn(checkpoint=whole)
    assert len(whole.saved) == 3
    for done, state in enumerate(whole.saved, start=1):
        told: list[Estimate] = []
        resumed = learn(checkpoint=Memory(state), progress=told.append)
        assert len(told) == 3 - done
        assert _same(resumed, expected)
        assert (resumed.stopped, resumed.erased, resumed.kept) == (
            expected.stopped,
            expected.erased,
            expected.kept,
        )


def test_the_base_is_left_alone(painted: Base, learn: Callable[..., Learned]) -> None:
    before = {name: t.clone() for name, t in painted.text_encoder().state_dict().items()}

    def interrupt(estimate: Estimate) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(progress=interrupt)
    after = painted.text_encoder().state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert not any(module._forward_pre_hooks for module in painted.text_encoder().modules())
    assert not any(parameter.requires_grad for parameter in painted.text_encoder().parameters())


def test_it_ends_when_two_attackers_in_a_row_were_held(learn: Callable[..., Learned]) -> None:
    learned = learn(replace(QUICK, attackers=9, erased_at_least=1e-6, attack_steps=1))
    assert learned.stopped.startswith("the concept is gone: 2 attackers in a row")
    assert len(learned.losses) < 9


def test_without_attackers_one_solution_is_all(learn: Callable[..., Learned]) -> None:
    learned = learn(replace(QUICK, attackers=0))
    assert "no attackers were asked for" in learned.stopped
    assert len(learned.losses) == 1


def test_pictures_that_tell_nothing_attack_nothing(painted: Base) -> None:
    wrong = [World(painted).paint("a picture of y"), World(painted).paint("an image of y")]
    delta = unlearn(painted, CONCEPT, wrong, QUICK, 0)
    assert "do not tell the concept from its anchor" in delta.card.stopped
    assert len(delta.card.losses) == 1


@pytest.mark.parametrize("anchor", ["q", "Q", "a q and more"])
def test_an_anchor_that_names_the_concept_is_refused(
    learn: Callable[..., Learned], anchor: str
) -> None:
    with pytest.raises(InputError, match=f"the anchor '{anchor}' names 'q'"):
        learn(replace(QUICK, anchor=anchor))


def test_a_concept_that_the_category_s_anchor_names_needs_another(base: Base) -> None:
    creature = Concept(name="Creature", category="character")
    settings = replace(QUICK, anchor=None, attackers=0)
    with pytest.raises(InputError, match="the anchor 'cartoon creature' names 'Creature'"):
        learn_edit(base, creature, (), settings, torch.Generator(), None, None)


def test_an_anchor_that_is_read_as_the_name_is_refused(
    pipeline_base_dir: Callable[[str], Path],
) -> None:
    base, picture = load_base(pipeline_base_dir("WanPipeline")), "12\u7d75"
    settings = replace(QUICK, anchor="12\u753b", attackers=0)  # both end in an unknown sign
    concept = Concept(name=picture, category="object")
    with pytest.raises(InputError, match=f"reads '{picture}' just as the anchor"):
        learn_edit(base, concept, (), settings, torch.Generator(), None, None)


def test_states_that_are_not_finite_are_refused(
    learn: Callable[..., Learned], monkeypatch: pytest.MonkeyPatch
) -> None:
    overflown = KeepMoments(torch.zeros(32), torch.full((32, 32), torch.nan))
    monkeypatch.setattr(anchored_mode, "keep_moments", lambda reader, rows: overflown)
    with pytest.raises(InputError, match="not finite numbers in float32; set encoder_precision"):
        learn()


def test_the_category_s_anchor_is_shown_where_none_is_given(learn: Callable[..., Learned]) -> None:
    assert learn(replace(QUICK, anchor=None)).anchor == ANCHORS[CONCEPT.category]


def test_as_much_is_kept_as_was_asked(learn: Callable[..., Learned]) -> None:
    for share in (0.6, 0.8):
        learned = learn(replace(QUICK, rank=32, kept_at_least=share))
        assert learned.kept is not None
        assert share <= learned.kept < share + 0.15
        assert f"would move over {1 - share:.1%} of what is kept" in learned.stopped


def test_a_name_that_does_not_fit_is_refused(painted: Base, pictures: list[Image.Image]) -> None:
    long = Concept(name="Zorpik " * 9, category="character")
    with pytest.raises(InputError, match="use a shorter name"):
        unlearn(painted, long, pictures, QUICK, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rank": 0},
        {"kept_at_least": 1.0},
        {"attackers": -1},
        {"attack_rate": 0.0},
        {"attack_rate": math.nan},
        {"attack_weight": math.inf},
        {"shots": 0},
    ],
)
def test_settings_have_bounds(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        AnchoredMode(**wrong)


def test_the_files_of_the_base_are_not_touched(painted: Base, delta: Delta) -> None:
    written = {path.name for path in Path(painted.folder).iterdir()}
    assert written == {"base.yaml", "t2i", "t2v"}
