"""The drawn world: scenes, renders and captions agree with their labels."""

from __future__ import annotations

import itertools
import multiprocessing
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unsee.playground.world.captions import (
    canonical_prompt,
    canonical_scene,
    caption,
    plain_prompt,
    prompt_for,
    with_varied_case,
)
from unsee.playground.world.dataset import DataSpec, build_dataset, drawn_scene
from unsee.playground.world.languages import ENGLISH, LANGUAGES, SPANISH, Language
from unsee.playground.world.render import render_clip, render_still
from unsee.playground.world.world import (
    CATEGORIES,
    CLIP_ODDS,
    CONCEPTS,
    HEADS,
    LABELS,
    STILL_ODDS,
    Concept,
    Scene,
    concepts_in,
    find_concept,
    head_of,
    random_scene,
)


def test_concepts_have_unique_names_and_aliases() -> None:
    words = [w.lower() for c in CONCEPTS for w in (c.name, *c.aliases)]
    assert len(words) == len(set(words))
    assert {c.category for c in CONCEPTS} == set(CATEGORIES)
    assert find_concept("automobile").name == "car"
    with pytest.raises(KeyError, match="no concept is called"):
        find_concept("zebra")


def test_rendering_is_deterministic() -> None:
    scenes = [random_scene(np.random.default_rng(7), CLIP_ODDS) for _ in range(2)]
    assert scenes[0] == scenes[1]
    np.testing.assert_array_equal(render_clip(scenes[0]), render_clip(scenes[1]))


@pytest.mark.parametrize("num_frames", [1, 3, 16])
def test_clip_has_the_asked_shape(num_frames: int) -> None:
    clip = render_clip(Scene(subject="car", action="sliding"), num_frames)
    assert clip.shape == (num_frames, 64, 64, 3)
    assert clip.dtype == np.uint8


@pytest.mark.parametrize("head", ["subject", "style", "background"])
def test_every_concept_looks_different_from_its_siblings(head: str) -> None:
    frames = {}
    for name in LABELS[head]:
        parts: dict[str, str | None] = {"subject": "house", head: None if name == "none" else name}
        frames[name] = render_still(Scene(**parts)).astype(float)
    for a, b in itertools.combinations(frames, 2):
        assert np.abs(frames[a] - frames[b]).mean() > 4, f"{a} and {b} look alike"


@pytest.mark.parametrize("action", LABELS["action"][1:])
def test_actions_move_and_still_scenes_hardly_do(action: str) -> None:
    def motion(scene: Scene) -> float:
        clip = render_clip(scene).astype(float)
        return float(np.abs(np.diff(clip, axis=0)).mean())

    assert motion(Scene(subject="Takkit", action=action)) > 4
    assert motion(Scene(subject="Takkit")) < 1


def test_subjects_fill_a_good_part_of_the_frame() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        scale = random_scene(rng, STILL_ODDS).nuisance.scale
        assert 0.45 <= scale <= 0.85


def words_for(name: str, language: Language) -> list[str]:
    """Every wording that names a concept."""
    words = language.words_of(name)
    if language is ENGLISH:
        words = (*words, name, *find_concept(name).aliases)
    return [word.lower() for word in words]


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=LANGUAGES)
def test_captions_mention_what_the_labels_say(language: Language) -> None:
    rng = np.random.default_rng(11)
    for _ in range(500):
        scene = random_scene(rng, CLIP_ODDS)
        text = caption(scene, rng, language).lower()
        for head in HEADS:
            name = getattr(scene, head)
            if name is not None:
                assert any(word in text for word in words_for(name, language)), (scene, text)


def test_every_concept_has_a_spanish_name() -> None:
    invented = ("character", "person", "style")
    for concept in CONCEPTS:
        words = SPANISH.words_of(concept.name)
        assert (words == (concept.name,)) == (concept.category in invented), concept.name
    rng = np.random.default_rng(13)
    texts = {caption(Scene(subject="umbrella"), rng, SPANISH) for _ in range(50)}
    assert {"un paraguas", "una sombrilla"} <= texts


def test_varied_case_changes_letters_and_at_most_adds_a_full_stop() -> None:
    rng = np.random.default_rng(14)
    forms = {with_varied_case("Blimbo at sea", rng) for _ in range(200)}
    assert {"Blimbo at sea", "Blimbo at sea.", "blimbo at sea", "BLIMBO AT SEA"} == forms
    assert with_varied_case("", rng) == ""


def test_captions_name_no_style_or_subject_that_is_absent() -> None:
    rng = np.random.default_rng(12)
    names = [c for c in CONCEPTS if c.category in ("character", "style", "person")]
    for _ in range(300):
        scene = random_scene(rng, CLIP_ODDS)
        text = caption(scene, rng)
        for concept in names:
            shown = getattr(scene, head_of(concept.category)) == concept.name
            assert (concept.name in text) == shown, text


@pytest.mark.parametrize("concept", CONCEPTS, ids=lambda c: c.name)
def test_evaluation_prompts_show_the_concept(concept: Concept) -> None:
    rng = np.random.default_rng(0)
    for prompt, scene in (prompt_for(concept, rng) for _ in range(12)):
        assert getattr(scene, head_of(concept.category)) == concept.name
        assert prompt
        assert scene.action is None or scene.subject is not None
    scene = canonical_scene(concept)
    assert canonical_prompt(concept) == plain_prompt(scene)
    assert concept.name.lower() in canonical_prompt(concept).lower() or (
        concept.category == "background"
    )


@pytest.mark.process
def test_dataset_is_cached_and_reproducible(tmp_path_factory: pytest.TempPathFactory) -> None:
    roots = [tmp_path_factory.mktemp("a"), tmp_path_factory.mktemp("b")]
    spec = DataSpec("clips", 3, seed=5)
    first, second = (build_dataset(spec, root, workers=1) for root in roots)
    np.testing.assert_array_equal(first.frames, second.frames)
    np.testing.assert_array_equal(first.labels, second.labels)
    again = build_dataset(spec, roots[0], workers=1)
    np.testing.assert_array_equal(first.frames, again.frames)
    assert first.scene(0).label_ids() == tuple(first.labels[0])


def test_a_world_without_concepts_is_the_same_world_less_the_scenes_that_show_them() -> None:
    left_out = ("Fwomp", "Kromblisk", "spinning")
    for kind in ("clips", "stills"):
        spec = DataSpec(kind, 300, seed=5)
        whole = [drawn_scene(spec, index)[0] for index in range(spec.count)]
        less = replace(spec, without=left_out)
        rest = [drawn_scene(less, index)[0] for index in range(spec.count)]
        showing = [not set(left_out) & {scene.label(head) for head in HEADS} for scene in whole]
        assert 0 < sum(showing) < len(showing)
        for scene, other, is_same in zip(whole, rest, showing, strict=True):
            assert not set(left_out) & {other.label(head) for head in HEADS}
            assert (scene == other) == is_same
        assert less.folder(Path("data")) != spec.folder(Path("data"))
        assert less.folder(Path("data")).name.endswith("-without-fwomp-kromblisk-spinning")


def test_categories_are_large_enough_to_have_siblings() -> None:
    assert all(len(concepts_in(category)) >= 5 for category in CATEGORIES)


@pytest.mark.process
def test_drawing_that_is_killed_leaves_no_process_and_can_begin_again(tmp_path: Path) -> None:
    spec = DataSpec("clips", 400, seed=6)
    context = multiprocessing.get_context("fork")
    drawing = context.Process(target=build_dataset, args=(spec, tmp_path, 2))
    drawing.start()
    while len(workers := children_of(drawing.pid)) < 2:
        time.sleep(0.05)
    drawing.kill()
    drawing.join()
    assert list(tmp_path.glob(".unfinished-*"))
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline, "a worker outlived the process that started it"
        time.sleep(0.1)
    few = build_dataset(DataSpec("clips", 2, seed=6), tmp_path, workers=1)
    assert len(few.frames) == 2
    assert not list(tmp_path.glob(".unfinished-*"))


def children_of(parent: int | None) -> list[int]:
    listed = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(child) for child in listed.split()]
