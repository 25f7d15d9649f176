"""Bases with odd but sound folders are unlearned on, from the prompts file to the delta."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from transformers import CLIPTokenizer

from fakes import add_words, change_json, change_yaml
from unsee.core.policy import Concept
from unsee.core.unlearning_settings import AnchoredMode, PaperMode, Settings
from unsee.deltas.composition import compose
from unsee.jobs.job import UnlearnJob, run_job
from unsee.models.base import Base, load_base
from unsee.prompts.encoding import encode_prompts

ANCHORED = AnchoredMode(
    shots=1,
    rank=4,
    attackers=1,
    attack_steps=2,
    prompts_to_forget=20,
    prompts_to_keep=30,
    anchor="zzzzzzzzzz",
)
PAPER = PaperMode(shots=1, epochs=1)
BLIMBO = Concept(name="Blimbo", category="character")


def _masked(folder: Path) -> None:
    change_json(folder / "t2i/text_encoder/config.json", use_attention_mask=True)


def _endless(folder: Path) -> None:
    change_json(folder / "t2i/tokenizer/tokenizer_config.json", model_max_length=10**30)


def _shorter(folder: Path) -> None:
    change_json(folder / "t2i/tokenizer/tokenizer_config.json", model_max_length=36)


def _other_ids(folder: Path) -> None:
    config = folder / "t2i/text_encoder/config.json"
    change_json(config, bos_token_id=10**6, eos_token_id=2, pad_token_id=1)


def _more_words(folder: Path) -> None:
    add_words(folder, "blimbo")


def _padded_with_bang(folder: Path) -> None:
    place = folder / "t2i/tokenizer"
    CLIPTokenizer.from_pretrained(place, pad_token="!").save_pretrained(place)


def _odd_prompts(folder: Path) -> None:
    prompts = ["blimbo\u00a0 on a boat", "Blimbo's hat", "a red house", "", "\u00ad", "é" * 90]
    (folder / "prompts.txt").write_text("\n".join(prompts))
    change_yaml(folder / "base.yaml", prompts="prompts.txt")


CHANGES = (_masked, _endless, _shorter, _other_ids, _more_words, _padded_with_bang, _odd_prompts)


@pytest.fixture(params=CHANGES, ids=lambda change: change.__name__[1:])
def base(request: pytest.FixtureRequest, own_base_dir: Path) -> Base:
    change: Callable[[Path], None] = request.param
    change(own_base_dir)
    return load_base(own_base_dir)


def test_the_delta_is_made_and_composed(base: Base, tmp_path: Path) -> None:
    settings: Settings = PAPER if base.prompt_frame().length < 48 else ANCHORED
    said: list[str] = []
    outcome = run_job(
        UnlearnJob(base, BLIMBO, settings, 0),
        tmp_path / "delta",
        force=False,
        stage_progress=lambda label: nullcontext(lambda step, total, note: None),
        say=said.append,
    )
    composed = compose(base.text_encoder(), [outcome.delta])
    before = encode_prompts(base, base.text_encoder(), ["Blimbo in a tree"])
    after = encode_prompts(base, composed, ["Blimbo in a tree"])
    assert torch.isfinite(after).all()
    assert not torch.equal(before, after)
    if base.spec.prompts is not None:
        assert any("nearly name 'Blimbo', such as \"Blimbo's hat\"" in line for line in said)
