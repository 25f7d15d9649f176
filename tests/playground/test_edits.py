"""Edits that are compared with the default mode's: each gives an encoder, and the table adds up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from finding_fakes import concept_report
from rich.console import Console

from unsee.core.errors import InputError
from unsee.core.policy import Concept
from unsee.evaluation.report.schema import Media, Report
from unsee.models.base import load_base
from unsee.playground.experiments import own_base
from unsee.playground.experiments.edits import compare, learned, ways
from unsee.playground.experiments.edits.ways import LINEAR, AmongPrompts, HeldInside, Subject
from unsee.playground.experiments.own_base import Experiment, chosen
from unsee.prompts.encoding import encode_prompts

SHORT = learned.Training(
    attackers=2,
    attack_steps=3,
    attack_vectors=2,
    attack_batch=2,
    shots=1,
    counterexamples=4,
    fit_steps=4,
    fit_batch=16,
)


@pytest.fixture
def subject(tiny_base_dir: Path, tmp_path: Path) -> Subject:
    concept = Concept(name="Blimbo", category="character", aliases=())
    return Subject(load_base(tiny_base_dir), concept, 0, tmp_path)


def said(subject: Subject, encoder: Any) -> torch.Tensor:
    with torch.no_grad():
        return encode_prompts(subject.base, encoder, ["Blimbo in the rain", "a house"])


@pytest.mark.parametrize("way", [*LINEAR.values(), lambda one: learned.learned_change(one, SHORT)])
def test_every_way_gives_an_encoder_that_says_something_else(
    subject: Subject, way: Callable[[Subject], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "NUM_KEPT", 32)
    own = subject.base.text_encoder()
    weights = {name: value.clone() for name, value in own.state_dict().items()}
    before = said(subject, own)
    after = said(subject, way(subject))
    assert after.isfinite().all()
    assert (after[0] - before[0]).abs().max() > 1e-3
    torch.testing.assert_close(said(subject, own), before)
    for name, value in own.state_dict().items():
        assert torch.equal(value, weights[name]), name


def test_states_are_held_where_the_kept_ones_lie() -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(2000, 6, generator=generator) @ torch.randn(6, 6, generator=generator)
    change = HeldInside.of(states, ends=0.0)
    inside = states[:40].reshape(4, 10, 6)
    torch.testing.assert_close(change(inside), inside, atol=1e-4, rtol=1e-4)
    held = change(100 * inside)
    torch.testing.assert_close(held[:, 0], 100 * inside[:, 0])
    coordinates = (held[:, 1:] - change.mean) @ change.basis
    assert (coordinates <= change.high + 1e-3).all()
    assert (coordinates >= change.low - 1e-3).all()


def test_states_become_means_of_what_prompts_say() -> None:
    said = torch.randn(30, 4, 6, generator=torch.Generator().manual_seed(0))
    change = AmongPrompts(said, width=0.01)
    first = torch.full((2, 1, 6), 9.0)
    near = torch.cat([first, said[:2] + 0.01], dim=1)
    torch.testing.assert_close(change(near), torch.cat([first, said[:2]], dim=1))
    wide = AmongPrompts(said, width=1e3)(near)
    torch.testing.assert_close(wide[0, 1:], said.mean(dim=0), atol=1e-3, rtol=0)
    assert AmongPrompts.of(said).width == pytest.approx(0.2 * 6**0.5, rel=0.2)


def test_a_learned_change_begins_as_the_identity_and_follows_its_pairs(subject: Subject) -> None:
    change = learned.SmallChange(8)
    states = torch.randn(3, 5, 8)
    torch.testing.assert_close(change(states), states)
    pool = learned._Pool.of(subject, SHORT)
    size = len(pool.edit.up)
    apart = torch.zeros(64, size)
    apart[:, 0] = 9.0
    pool.pairs = [(apart, -apart)]
    pool.training = learned.Training(fit_steps=60, fit_batch=32)
    pool.fit()
    with torch.no_grad():
        assert (pool.change(apart) + apart).square().mean() < 0.6 * (2 * apart).square().mean()
        assert (pool.change(pool.kept) - pool.kept).square().mean() < 0.1


def test_the_table_adds_concepts_up() -> None:
    one = {"tuned": 1, "base": 4, "n": 4, "floor": 0}
    concept = {"seconds": 10.0, "asked for": one, "others": {"tuned": 8, "base": 8, "n": 8}}
    lines = compare.table({"projection": {"Blimbo": concept, "car": concept | {"seconds": 30.0}}})
    assert lines[0] == "| edit | asked for | others | n | seconds |"
    cells = "2 (base 8, floor 0) of 8 | 16 (base 16) of 16"
    assert lines[2] == f"| projection | {cells} | 2 | 20 |"


def test_an_encoder_whose_padding_is_cut_off_is_no_subject(tmp_path: Path) -> None:
    frame = SimpleNamespace(reads_padding=False)
    base: Any = SimpleNamespace(name="wan", prompt_frame=lambda: frame)
    with pytest.raises(InputError, match="that of 'wan' is cut off"):
        compare.run({}, [], compare.CLIPS, Experiment(base, tmp_path, tmp_path), Console())


def test_the_attack_without_gradients_can_be_asked_for(
    tiny_base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = []
    monkeypatch.setattr(compare, "run", lambda ways, concepts, plan, *rest: plans.append(plan))
    options = ["--base", str(tiny_base_dir), "--build-dir", str(tmp_path), "--concept", "Blimbo"]
    compare.compare.main(options, standalone_mode=False)
    wanted = "soft-prompt,smoothed-soft-prompt"
    compare.compare.main([*options, "--attacks", wanted], standalone_mode=False)
    compare.compare.main(
        [*options, "--attack-budget", "1", "--attack-budget", "4"], standalone_mode=False
    )
    several = [(attack.name, attack.times) for attack in plans.pop().attacks]
    assert several == [
        (name, times) for name in ("soft-prompt", "prompt-search") for times in (1, 4)
    ]
    usual, smoothed = ([attack.name for attack in plan.attacks] for plan in plans)
    assert usual == ["soft-prompt", "prompt-search"]
    assert ",".join(smoothed) == wanted


def test_no_way_saves_seconds_by_what_another_has_made_and_none_attacks_the_base_again(
    tiny_base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, found, attacks = load_base(tiny_base_dir), [], []

    def way(subject: Subject) -> Any:
        found.append(list(subject.folder.iterdir()))
        (subject.folder / "delta").mkdir()
        return subject.base.text_encoder()

    def report_of(base: Any, target: Any, plan: Any, folder: Path, frames_dir: Path) -> Report:
        kept = folder / "attacks"
        attacks.append(sorted(file.name for file in kept.glob("*")))
        kept.mkdir(parents=True, exist_ok=True)
        for side in ("tuned", "base"):
            (kept / f"soft-prompt-{side}.json").write_text(folder.name)
        return concept_report("Blimbo", 1)

    monkeypatch.setattr(own_base, "fast_base", lambda folder: base)
    monkeypatch.setattr(compare, "report_of", report_of)
    experiment = Experiment(base, tmp_path, tmp_path)
    concepts = chosen(["Blimbo"], [])
    ways = {"one": way, "two": way}
    compare.run(ways, concepts, compare.CLIPS, experiment, Console(quiet=True))
    assert found == [[], []]
    assert attacks == [[], ["soft-prompt-base.json"]]
    record = json.loads((tmp_path / "edits_video.json").read_text())
    assert list(record["ways"]) == ["one", "two"]
    more = chosen(["kite"], [])
    compare.run({"two": way}, more, compare.CLIPS, experiment, Console(quiet=True))
    record = json.loads((tmp_path / "edits_video.json").read_text())
    assert {way: list(each) for way, each in record["ways"].items()} == {
        "one": ["Blimbo"],
        "two": ["Blimbo", "kite"],
    }


@pytest.mark.parametrize(("media", "categories"), [("image", 4), ("video", 5)])
def test_eight_concepts_of_all_categories_that_can_be_shown_are_compared(
    media: Media, categories: int
) -> None:
    concepts = compare.subjects(media)
    assert len({concept.name for concept in concepts}) == 8
    assert len({concept.category for concept in concepts}) == categories
