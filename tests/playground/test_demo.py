"""The demo's choice of questions and what it reports; the demo itself needs a server."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from record_fakes import revision_record
from unsee.core.errors import InputError, RepositoryError
from unsee.core.files import lock
from unsee.core.policy import Thresholds
from unsee.core.record import GenerationRecord
from unsee.evaluation.asking.questions import QuestionMaker
from unsee.evaluation.seeing.observe import is_answerable
from unsee.media.clip import Clip
from unsee.models.base import load_base
from unsee.playground.demo import run
from unsee.playground.demo.questions import GROUPS, Question, choose_questions
from unsee.playground.demo.report import Share, Trial, share, write_clips, write_sheet
from unsee.playground.demo.run import unlearnable_concept
from unsee.playground.experiments.own_base import evaluation_set, find_base, policy_concept
from unsee.playground.world.languages import ENGLISH, SPANISH
from unsee.playground.world.world import CONCEPTS, find_concept

UNLEARNABLE = [concept.name for concept in CONCEPTS if concept.category != "background"]


@settings(deadline=None)  # a busy machine takes its time
@given(
    name=st.sampled_from(UNLEARNABLE),
    count=st.integers(min_value=3, max_value=60),
    seed=st.integers(min_value=0, max_value=2**16),
)
def test_questions_ask_for_the_concept_and_for_what_is_kept(
    name: str, count: int, seed: int
) -> None:
    questions = choose_questions(unlearnable_concept(name), count, seed)
    assert len(questions) == count
    assert {question.group for question in questions} == set(GROUPS)
    for question in questions:
        category = find_concept(question.concept).category
        own = find_concept(name).category
        match question.group:
            case "concept":
                assert question.concept == name
            case "siblings":
                assert category == own
                assert question.concept != name
            case "others":
                assert category not in (own, "background")


def test_a_base_of_several_languages_is_asked_in_each() -> None:
    languages = (ENGLISH, SPANISH)
    questions = choose_questions(unlearnable_concept("umbrella"), 24, 0, languages)
    prompts = [question.prompt for question in questions if question.group == "concept"]
    for place, prompt in enumerate(prompts):
        words = languages[place % 2].object_words["umbrella"]
        assert any(word in prompt for word in words), prompt


@pytest.mark.parametrize("name", ["Blimbo", "Oskrivane", "Ulmi Zandrake"])
def test_prompts_about_what_is_kept_do_not_name_the_concept(name: str) -> None:
    questions = choose_questions(unlearnable_concept(name), 90, 0)
    kept = [question.prompt for question in questions if question.group != "concept"]
    assert not [prompt for prompt in kept if re.search(name, prompt, re.IGNORECASE)]


@pytest.mark.parametrize("base_name", ["playground", "playground-wan"])
def test_every_concept_s_first_look_has_the_samples_that_the_gate_asks_for(base_name: str) -> None:
    base = load_base(find_base(base_name))
    for name in UNLEARNABLE:
        concept = unlearnable_concept(name)
        plan = run.first_look(concept)
        known = evaluation_set(base).with_erased((policy_concept(concept, base),))
        erased = known.find(name)
        assert erased is not None
        maker = QuestionMaker(known, (erased,), plan.seed, lambda prompt: True)
        for questions in (
            maker.about_erased(erased, plan.prompts_per_wording),
            maker.about_siblings(plan.prompts_per_sibling),
            maker.about_others(plan.num_others),
        ):
            asked = sum(is_answerable(one, media) for one in questions for media in plan.media)
            assert asked >= Thresholds().samples_at_least, (name, questions[0].kind)


@pytest.mark.parametrize("name", ["nobody", "desert", ""])
def test_what_cannot_be_unlearned_is_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(InputError, match="no concept of the playground"):
        unlearnable_concept(name)


@pytest.mark.parametrize(
    ("digest", "schema_version", "stays"),
    [("sha256:now", 2, True), ("sha256:before", 2, False), ("sha256:now", 1, False)],
)
def test_a_repository_of_an_older_base_or_version_makes_way(
    tmp_path, monkeypatch, digest, schema_version, stays
) -> None:
    base = SimpleNamespace(digest=lambda: "sha256:now")
    monkeypatch.setattr(run, "write_repository", lambda *arguments: arguments)
    record = tmp_path / "policy_family" / "1" / "revision.json"
    record.parent.mkdir(parents=True)
    record.write_text(revision_record(base_digest=digest).model_dump_json())
    pointer = {"schema_version": schema_version, "policies": {}}
    (tmp_path / "policies.json").write_text(json.dumps(pointer))
    said: list[str] = []
    run.export_base(base, tmp_path, said.append)
    assert record.exists() == stays
    assert bool(said) != stays


def test_a_repository_that_is_served_does_not_make_way(tmp_path) -> None:
    (tmp_path / "policies.json").write_text('{"schema_version": 1, "policies": {}}')
    base = SimpleNamespace(digest=lambda: "sha256:now")
    with (
        lock(tmp_path, command="serve", shared=True),
        pytest.raises(RepositoryError, match="is being served; stop `unsee serve` first"),
    ):
        run.export_base(base, tmp_path, print)
    assert (tmp_path / "policies.json").exists()


def test_a_repository_with_other_policies_than_the_demo_s_stays(tmp_path) -> None:
    base = SimpleNamespace(digest=lambda: "sha256:now")
    record = tmp_path / "policy_ours" / "1" / "revision.json"
    record.parent.mkdir(parents=True)
    record.write_text(revision_record(base_digest="sha256:before").model_dump_json())
    pointer = {"schema_version": 2, "policies": {}}
    (tmp_path / "policies.json").write_text(json.dumps(pointer))
    with pytest.raises(InputError, match="holds the policy 'ours', which is not the demo's"):
        run.export_base(base, tmp_path, print)
    assert record.exists()


def test_a_share_counts_one_group_under_one_policy() -> None:
    seen = [(True, False), (True, True), (False, False)]
    trials = [_trial("concept", before, after) for before, after in seen]
    trials.append(_trial("others", True, True))
    assert share(trials, "concept", "base") == Share(2, 3)
    assert share(trials, "concept", "family") == Share(1, 3)
    assert str(Share(0, 12)) == "0/12  (0-24 %)"  # Wilson: z^2 / (n + z^2) with z = 1.96


def test_the_sheet_shows_each_group(tmp_path) -> None:
    trials = [_trial(group, True, group != "concept") for group in GROUPS]
    write_sheet(trials, "Blimbo", tmp_path / "sheet.png")
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_of_the_clips_there_only_those_of_an_earlier_run_make_way(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Clip, "save", lambda clip, file: file.touch())
    for name in ("concept-11-family.mp4", "holidays.mp4"):
        (tmp_path / name).touch()
    write_clips([_trial("concept", True, False)], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "concept-00-base.mp4",
        "concept-00-family.mp4",
        "holidays.mp4",
    ]


def _trial(group, before: bool, after: bool) -> Trial:
    frames = np.zeros((4, 64, 64, 3), np.uint8)
    record = GenerationRecord.model_construct()
    clips = {policy: Clip(frames, record) for policy in ("base", "family")}
    question = Question("Blimbo jumping", 0, "Blimbo", group)
    return Trial(question, clips, {"base": before, "family": after})
