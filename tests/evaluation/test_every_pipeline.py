"""From a concept's name to a report, as a user types it, in every pipeline class.

The models are tiny and random: what is tested is that every step works and says the truth about
what it did, not that anything is forgotten.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner
from diffusers import DiffusionPipeline
from pipeline_fakes import PIPELINES
from recogniser_fakes import use_bright

from unsee.cli.main import run
from unsee.deltas.attach import attach
from unsee.deltas.composition import compose
from unsee.deltas.folder import load_delta
from unsee.evaluation.attacks import (
    BenignRelearning,
    BlackBoxSearch,
    ConceptVector,
    PromptSearch,
    SoftPrompt,
)
from unsee.evaluation.cli import evaluate
from unsee.evaluation.report.consistency import inconsistencies
from unsee.evaluation.report.schema import load_report
from unsee.jobs.base_cli import base as base_command
from unsee.jobs.cli import unlearn
from unsee.models.base import Base, load_base
from unsee.prompts.encoding import encode_prompts, prompt_ids

pytestmark = pytest.mark.torch
SMALL_ATTACKS = (
    BlackBoxSearch(clips=2, num_words=1),
    SoftPrompt(num_vectors=2, starts=1, start_steps=1, steps=1, batch_size=2, held_out=2),
    ConceptVector(etas=(1.0,), trials=2),
    PromptSearch(num_tokens=2, steps=1, top_k=2, candidates=2, trials=2, carriers=1),
    BenignRelearning(steps=1, batch_size=2, learning_rate=1e-3),
)
GETS_EVERY_ATTACK = ("TextToVideoSDPipeline", "WanPipeline")
"""Of each kind of encoder one. The first two attacks reach all that is a pipeline class's own: its
clips, and the gradient through its denoiser and encoder."""
LEARNING = {
    "paper": {"learning_rate": 1e-2, "epochs": 1, "shots": 2, "batch_size": 2},
    "anchored": {
        "shots": 2,
        "rank": 3,
        "attackers": 1,
        "attack_steps": 1,
        "batch_size": 2,
        "prompts_to_forget": 6,
        "prompts_to_keep": 12,
    },
}
EVALUATION = {
    "concepts": [
        {"name": "Blimbo", "category": "character"},
        {"name": "Mipsu", "category": "character"},
        {"name": "umbrella", "category": "object"},
        {"name": "desert", "category": "background", "phrase": "the desert"},
    ],
    "templates": {
        "character": {
            "alone": ["{}"],
            "context": ["{} in {background}"],
            "long": ["{} in {background}, bright"],
            "neutral": "something",
        }
    },
}


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    use_bright(monkeypatch, *SMALL_ATTACKS)


@pytest.fixture(scope="module")
def prepared(
    tiny_base_dir: Path,
    pipeline_base_dir: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Path]:
    """Gives the base of a pipeline class with prompts and an evaluation set of its own.

    That of Stable Diffusion is an image model beside ModelScope's video model.
    """

    @functools.cache
    def made(name: str) -> Path:
        is_image = name == "StableDiffusionPipeline"
        source = tiny_base_dir if is_image else pipeline_base_dir(name)
        folder = tmp_path_factory.mktemp(name)
        spec = yaml.safe_load((source / "base.yaml").read_text())
        spec |= {model: str(source / spec[model]) for model in ("t2i", "t2v") if model in spec}
        spec["clip"] |= {"num_inference_steps": 1}
        if is_image:
            spec["clip"] |= {"num_frames": 2}
        spec |= {"unlearn": LEARNING, "prompts": "prompts.txt", "evaluation": "evaluation.yaml"}
        (folder / "base.yaml").write_text(yaml.safe_dump(spec))
        (folder / "prompts.txt").write_text("a red house\nBlimbo in a tree\na boat\nMipsu, far\n")
        (folder / "evaluation.yaml").write_text(yaml.safe_dump(EVALUATION))
        return folder

    return made


@pytest.fixture(params=PIPELINES)
def folder(request: pytest.FixtureRequest, prepared: Callable[[str], Path]) -> Path:
    return prepared(request.param)


@pytest.fixture
def base(folder: Path) -> Base:
    return load_base(folder)


def _typed(command: Any, *arguments: str | Path) -> str:
    result = CliRunner().invoke(command, list(map(str, arguments)))
    assert result.exit_code == 0, result.output + repr(result.exception)
    return str(result.stdout)


def _unlearned(base: Base, name: str, out: Path, *options: str) -> Path:
    where = ("--category", "character", "--base", base.folder, "-o", out)
    _typed(unlearn, name, *where, *options)
    return out


def test_its_base_is_checked_and_its_plan_is_made(base: Base, tmp_path: Path) -> None:
    said = _typed(base_command, "check", base.folder)
    assert "wrong:" not in said
    encoder, denoiser = base.text_encoder(), base.denoiser("video")
    assert type(encoder).__name__ in said
    assert type(denoiser).__name__ in said or base.spec.t2i is not None
    out = tmp_path / "delta"
    options = ("--category", "character", "--base", base.folder, "-o", out, "--dry-run", "--json")
    (plan,) = json.loads(_typed(unlearn, "Blimbo", *options))["plans"]
    assert not out.exists()
    width = base.family().width(encoder.config)
    assert (plan["trained_tensors"], plan["trained_values"]) == (3, 2 * 3 * width + 3)
    assert [stage["name"] for stage in plan["stages"]] == ["generate", "learn"]


@pytest.fixture(scope="module")
def edits(
    prepared: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Path, Path]]:
    """Gives the deltas of two concepts on the base in a folder, learned once: with an attacker and
    from the name alone."""

    @functools.cache
    def learned(folder: str) -> tuple[Path, Path]:
        out, base = tmp_path_factory.mktemp("deltas"), load_base(Path(folder))
        blimbo = _unlearned(base, "Blimbo", out / "blimbo")
        return blimbo, _unlearned(base, "Mipsu", out / "mipsu", "--attackers", "0")

    return learned


def test_two_edits_are_learned_and_composed(
    base: Base, edits: Callable[[str], tuple[Path, Path]]
) -> None:
    deltas = [load_delta(folder) for folder in edits(str(base.folder))]
    prompts = ["Blimbo in a tree", "a boat", ""]
    for delta in deltas:
        assert delta.card.method == "anchored"
        assert delta.card.base_digest == base.digest()
        assert all(tensor.isfinite().all() for tensor in delta.tensors.values())
    assert [delta.card.image_source for delta in deltas] == ["generated", "none"]
    encoder = base.text_encoder()
    said = encode_prompts(base, encoder, prompts)
    alone = [encode_prompts(base, compose(encoder, [delta]), prompts) for delta in deltas]
    both = encode_prompts(base, compose(encoder, deltas), prompts)
    for one in (*alone, both):
        assert one.isfinite().all()
        assert float((one - said).abs().max()) > 1e-3
        assert torch.equal(one == 0, said == 0) or not (said == 0).any()
    assert not torch.allclose(both, alone[0])
    assert torch.equal(both, encode_prompts(base, compose(encoder, deltas[::-1]), prompts))
    unread = (said == 0).all(-1)
    assert (both[unread] == 0).all()
    is_zeroed = not base.prompt_frame().reads_padding
    mask = prompt_ids(base, prompts) == base.prompt_frame().pad
    assert torch.equal(unread, mask) if is_zeroed else not unread.any()


def test_what_is_evaluated_is_what_an_attached_edit_says(
    base: Base, edits: Callable[[str], tuple[Path, Path]]
) -> None:
    """The pipeline of diffusers with an edit attached encodes as evaluation's encoder does."""
    deltas = edits(str(base.folder))
    pipeline = DiffusionPipeline.from_pretrained(base.folder / base.spec.t2v)
    length = base.pipeline().prompts.length
    options: dict[str, Any] = {"max_sequence_length": length}
    if length is None:
        options = {"device": "cpu", "num_images_per_prompt": 1}
    encoder = compose(base.text_encoder(), [load_delta(folder) for folder in deltas])
    ours = encode_prompts(base, encoder, ["Blimbo and Mipsu in a tree"])
    with attach(pipeline, *deltas), torch.no_grad():
        theirs = pipeline.encode_prompt(
            prompt="Blimbo and Mipsu in a tree", do_classifier_free_guidance=False, **options
        )[0]
    if not base.prompt_frame().reads_padding:
        theirs = theirs * (ours != 0).any(-1, keepdim=True)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_paper_mode_tunes_the_encoder(base: Base, tmp_path: Path) -> None:
    out = _unlearned(base, "Blimbo", tmp_path / "delta", "--mode", "paper")
    delta, encoder = load_delta(out), base.text_encoder()
    trained = base.family().paper_parameters(encoder)
    assert len(delta.tensors) > 0
    assert set(delta.tensors) <= set(trained)
    tuned = compose(encoder, [delta])
    assert not torch.equal(
        encode_prompts(base, tuned, ["Blimbo"]), encode_prompts(base, encoder, ["Blimbo"])
    )


def test_an_edit_is_evaluated_and_attacked(
    request: pytest.FixtureRequest,
    base: Base,
    edits: Callable[[str], tuple[Path, Path]],
    tmp_path: Path,
) -> None:
    delta, _ = edits(str(base.folder))
    out = tmp_path / "report"
    every = request.node.callspec.params["folder"] in GETS_EVERY_ATTACK
    attacks = {attack.name for attack in (SMALL_ATTACKS if every else SMALL_ATTACKS[:2])}
    options = ("--recogniser", "bright", "--prompts-per-wording", "1", "--others", "1")
    more = ("--prompts-per-sibling", "1", "--attack-prompts", "1", "--prompts-per-shape", "0")
    more = (*more, "--attacks", ",".join(attacks))
    _typed(evaluate, delta, "--base", base.folder, "-o", out, *options, *more)
    report = load_report(out)
    assert inconsistencies(report) == ()
    assert {row.media for row in report.erased} == {"image", "video"}
    assert {row.concept for row in report.erased} == {"Blimbo"}
    assert {row.attack for row in report.attacks} == attacks
    assert {row.media for row in report.attacks} == {"image", "video"}
    assert report.motion is not None
    assert report.target.encoder_digest != base.digest()


@pytest.mark.parametrize("name", ["WanPipeline", "LTXPipeline"])  # UMT5 and T5
def test_an_edit_is_learned_with_an_encoder_in_half_precision(
    name: str, prepared: Callable[[str], Path], tmp_path: Path
) -> None:
    spec = yaml.safe_load((prepared(name) / "base.yaml").read_text())
    spec |= {"encoder_precision": "bfloat16", "precision": "bfloat16", "prompts": None}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(spec))
    base = load_base(tmp_path)
    out = _unlearned(base, "Blimbo", tmp_path / "delta")
    assert torch.bfloat16 in {each.dtype for each in base.text_encoder().parameters()}
    exact = load_base(prepared(name))
    delta = load_delta(out)
    said = encode_prompts(base, compose(base.text_encoder(), [delta]), ["Blimbo in a tree"])
    before = encode_prompts(base, base.text_encoder(), ["Blimbo in a tree"])
    wanted = encode_prompts(exact, exact.text_encoder(), ["Blimbo in a tree"])
    assert float((before - wanted).norm() / wanted.norm()) < 0.02
    assert float((said - before).norm() / before.norm()) > 0.02
    pipeline = DiffusionPipeline.from_pretrained(base.folder / base.spec.t2v, dtype=torch.bfloat16)
    attach(pipeline, out).detach()


@pytest.mark.parametrize("name", ["LTXPipeline", "CogVideoXPipeline"])
def test_its_export_is_refused_in_one_sentence(
    name: str, prepared: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--base", str(prepared(name)), "--repository", str(tmp_path / "repository")]
    assert run(["export", *where]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert f"is a {name}, which cannot be exported and served yet" in said[-1]
