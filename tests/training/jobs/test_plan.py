"""The plan of a dry run, held against what the run then does."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pipeline_fakes import write_pipeline_base

from unsee.core.errors import InputError
from unsee.core.policy import Concept
from unsee.core.unlearning_settings import AnchoredMode, PaperMode, Settings
from unsee.jobs.job import UnlearnJob, run_job
from unsee.jobs.plan import make_plan
from unsee.models.base import Base, load_base
from unsee.unlearning.contexts import contexts_of

ANCHORED = AnchoredMode(
    shots=2,
    rank=3,
    kept_at_least=0.01,  # so little that every direction is taken
    attackers=4,
    attack_steps=5,
    erased_at_least=50.0,  # more than there is, so that every attacker is met
    prompts_to_forget=20,
    prompts_to_keep=40,
    anchor="zzzzzzzzzz",  # the tiny base's pictures tell it from the concept
)
PAPER = PaperMode(shots=3, epochs=2, batch_size=2)


def _job(base: Base, settings: Settings, images_dir: Path | None = None) -> UnlearnJob:
    blimbo = Concept(name="Blimbo", category="character", aliases=("Blimby",))
    return UnlearnJob(base, blimbo, settings, 0, images_dir)


def _run(job: UnlearnJob, folder: Path) -> Any:
    return run_job(
        job,
        folder,
        force=False,
        stage_progress=lambda label: nullcontext(lambda step, total, note: None),
    )


@contextmanager
def _counted(base: Base) -> Iterator[Counter[str]]:
    """How many latents and prompts go through the denoiser and the encoder, or a copy of it."""
    counts: Counter[str] = Counter()
    handles = [
        model.register_forward_hook(
            lambda _, inputs, __, name=name: counts.update({name: len(inputs[0])})
        )
        for name, model in (("denoised", base.denoiser()), ("encoded", base.text_encoder()))
    ]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("settings", [ANCHORED, replace(ANCHORED, attackers=0), PAPER])
def test_the_work_and_values_are_those_of_the_run(
    base: Base, tmp_path: Path, settings: Settings
) -> None:
    job, folder = _job(base, settings), tmp_path / "blimbo"
    plan = make_plan(job, folder, force=False)
    assert not any(tmp_path.iterdir())
    with _counted(base) as counts:
        delta = _run(job, folder).delta
    assert len(delta.card.losses) == plan.steps
    assert len(delta.tensors) == plan.trained_tensors
    assert sum(tensor.numel() for tensor in delta.tensors.values()) == plan.trained_values
    assert delta.card.prompts == plan.images
    assert all(stage.seconds > 0 for stage in plan.stages)
    for model, count in counts.items():
        planned = sum(getattr(stage.work, model) for stage in plan.stages)
        assert count <= planned <= 1.25 * count, model


def test_an_encoder_that_skips_padding_is_timed_with_prompts_and_not_with_padding(
    tmp_path: Path,
) -> None:
    base = load_base(write_pipeline_base("WanPipeline", Path(), tmp_path / "base"))
    lengths: list[int] = []
    base.text_encoder().encoder.block[0].register_forward_pre_hook(
        lambda _, inputs: lengths.append(inputs[0].shape[1])
    )
    make_plan(_job(base, replace(ANCHORED, attackers=0)), tmp_path / "out", force=False)
    empty = base.tokenizer()("").input_ids
    assert max(lengths) > len(empty)


def test_in_words(base: Base, tmp_path: Path) -> None:
    folder = tmp_path / "blimbo"
    words = make_plan(_job(base, ANCHORED), folder, force=False).in_words()
    assert "Blimbo (character, also Blimby) on the base tiny, mode anchored" in words
    assert '20 prompts drawn from 16: "a picture of Blimbo"' in words
    few = "the base names no prompts file, and its tokenizer knows few ordinary words"
    assert f"keep     40 prompts of random words: {few}\n" in words
    assert 'show     "zzzzzzzzzz" instead' in words
    assert 'images   2 to be generated: "a picture of Blimbo", "an image of Blimbo"\n' in words
    assert "train    195 values in 3 tensors, at most 4 steps, seed 0" in words
    assert f"output   {folder}: does not exist yet" in words

    paper = make_plan(_job(base, PAPER), folder, force=False).in_words()
    assert "keep     no prompts" in paper
    assert "at most 6 latents denoised (6 with gradients) and 6 prompts encoded, about " in paper
    assert "show" not in paper


def test_the_base_s_prompts_are_parted_by_the_name(base: Base, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("BLIMBO in a tree\na red house\nthe blimby\nBlimbos\n")
    spec = base.spec.model_copy(update={"prompts": str(tmp_path / "prompts.txt")})
    plan = make_plan(_job(replace(base, spec=spec), ANCHORED), tmp_path / "out", force=False)
    assert plan.forget.distinct == 18
    assert plan.keep.examples == ("a red house",)
    assert plan.near.examples == ("Blimbos",)
    assert 'neither  1 prompts that nearly name it: "Blimbos"; --also' in plan.in_words()


def test_which_prompts_are_kept_without_a_prompts_file(
    base: Base, wordy_base: Base, tmp_path: Path
) -> None:
    dog = Concept(name="dog", category="object")
    job = UnlearnJob(wordy_base, dog, replace(ANCHORED, attackers=0), 0)
    plan = make_plan(job, tmp_path / "out", force=False)
    assert (plan.brings_prompts, plan.keep.drawn) == (False, 40)
    kept = contexts_of(wordy_base, dog).kept
    assert plan.keep.distinct == len(kept) > 3000
    shown = f'half from {len(kept)} ordinary ones: "{plan.keep.examples[0]}"'
    assert f"keep     40 prompts, half of random words, {shown}" in plan.in_words()

    (tmp_path / "prompts.txt").write_text("Blimbo in a tree\n")
    spec = base.spec.model_copy(update={"prompts": str(tmp_path / "prompts.txt")})
    job = _job(replace(base, spec=spec), ANCHORED)
    words = make_plan(job, tmp_path / "out", force=False).in_words()
    assert "40 prompts of random words: the base's prompts file has none to keep" in words


def test_as_json(base: Base, tmp_path: Path, images: list[Image.Image]) -> None:
    for index, image in enumerate(images):
        image.save(tmp_path / f"{index}.png")
    settings = replace(PAPER, shots=3)
    plan = make_plan(_job(base, settings, tmp_path), tmp_path / "out", force=False)
    content = json.loads(plan.as_json())
    assert content["concept"] == {
        "name": "Blimbo",
        "category": "character",
        "aliases": ["Blimby"],
    }
    assert content["images"] == ["0.png", "1.png", "2.png"]
    assert [stage["name"] for stage in content["stages"]] == ["learn"]
    assert content["output"] == str(tmp_path / "out")


def test_the_outlook(base: Base, tmp_path: Path) -> None:
    job, folder = _job(base, replace(PAPER, epochs=1, shots=1)), tmp_path / "blimbo"
    _run(job, folder)
    other = replace(job, seed=1)

    def outlook(job: UnlearnJob, *, force: bool) -> str:
        return make_plan(job, folder, force=force).outlook

    assert "nothing would be done" in outlook(job, force=False)
    assert outlook(other, force=False).startswith("another delta is there (seed differ)")
    assert "would be replaced" in outlook(other, force=True)
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(InputError):
        outlook(other, force=True)
