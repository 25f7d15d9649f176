"""The second base's training, tiny: stages run, resume as if uncut, and load in WanPipeline."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from diffusers import WanPipeline
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoTokenizer

from unsee.deltas.folder import load_card
from unsee.models.pipelines.wan_padding import count_padding, leave_out_padding, short_context
from unsee.playground.experiments import every_concept
from unsee.playground.networks.mixed_precision import use_mixed_precision
from unsee.playground.networks.muon import Muon, split_parameters
from unsee.playground.networks.t5_tokenizer import kept_tokenizer, training_captions
from unsee.playground.networks.wan import (
    CLIP,
    MAX_TOKENS,
    WanSizes,
    new_autoencoder,
    new_text_encoder,
    new_transformer,
)
from unsee.playground.networks.wan_training import begin_without_time, use_fast_forms
from unsee.playground.quality import evaluate, sample
from unsee.playground.quality.generate import generate_clips, generate_stills, load_pipeline
from unsee.playground.training import train
from unsee.playground.training.loop import Budget
from unsee.playground.training.stage import Places, Stage
from unsee.playground.training.train import Recipe, main
from unsee.playground.training.train_autoencoder import initialise
from unsee.playground.training.wan import stages as wan_stages
from unsee.playground.training.wan.autoencoder import (
    AutoencoderBatch,
    VideoAutoencoderTask,
    encode_normalised,
    finished_autoencoder,
    to_video,
)
from unsee.playground.training.wan.stages import WanTraining, stages_of
from unsee.playground.training.wan.transformer import FlowTask
from unsee.playground.world.dataset import DataSpec, build_dataset, scene_of
from unsee.playground.world.languages import LANGUAGES
from unsee.playground.world.world import HEADS

SIZES = WanSizes(
    vae_width=4,
    vae_multipliers=(1, 1, 2, 2),
    latent_channels=4,
    width=24,
    heads=2,
    layers=2,
    text_width=16,
    text_heads=2,
    text_layers=1,
)
TINY = WanTraining(
    sizes=SIZES,
    wide_stills=DataSpec("stills", 12, seed=1),
    wide_clips=DataSpec("clips", 4, seed=2, num_frames=17),
    stills=DataSpec("stills", 6, seed=3, spread=0.4),
    clips=DataSpec("clips", 3, seed=4, spread=0.4, num_frames=17),
    autoencoder_batch=AutoencoderBatch(
        stills_steps=1, stills_alone=2, stills=1, clips=2, whole_every=2
    ),
    statistics_items=2,
    stills_batch=(3, 2),
    clips_batch=(2, 1),
    stills_beside_clips=(2, 2),
    text_only_steps=1,
    num_captions=300,
    compiled=False,
)
BUDGET = Budget(steps=3, learning_rate=1e-3, warmup_steps=1)
TASKS = {"autoencoder": VideoAutoencoderTask, "stills": FlowTask, "clips": FlowTask}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """All stages, a few steps each, without an interruption."""
    folder = tmp_path_factory.mktemp("trained")
    places = Places(folder / "build", folder / "tiny-wan")
    for name, stage in stages_of(TINY).items():
        assert stage.train(BUDGET, places), name
    return places


def recorded(places: Places) -> dict[str, dict[str, str]]:
    records: dict[str, dict[str, str]] = json.loads((places.base_dir / "training.json").read_text())
    return records


@pytest.mark.process
def test_every_stage_leaves_a_record(trained: Places) -> None:
    records = recorded(trained)
    assert list(records) == ["autoencoder", "stills", "clips"]
    for name, record in records.items():
        assert record["command"].endswith(f"--base tiny-wan --stage {name}")
        assert record["steps"] == BUDGET.steps
        assert record["finished"] is True
        assert len(record["digest"]) == len("sha256:") + 64
    assert records["autoencoder"]["precision"] == records["clips"]["precision"]
    assert records["clips"]["precision"] in ("bfloat16", "float32")


@pytest.mark.process
def test_a_base_without_concepts_never_sees_them_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = tmp_path / "bases" / "tiny-wan"
    shipped.mkdir(parents=True)
    written = "name: tiny-wan\nt2v: t2v\njudge: ../another/judge\n"
    (shipped / "base.yaml").write_text(written)
    (shipped / "evaluation.yaml").write_text("concepts: []\n")
    judge = tmp_path / "bases" / "another" / "judge"
    judge.mkdir(parents=True)
    (judge / "config.json").write_text("{}")
    usual = Places(tmp_path / "build" / "tiny-wan", shipped)
    recipe = Recipe(stages_of(TINY), usual)
    monkeypatch.setattr(train, "RECIPES", {"tiny-wan": recipe})
    names = ["spinning", "keph lorumbay", "Fwomp"]
    threads = str(torch.get_num_threads())  # another number would change other tests' bits
    command = ["--base", "tiny-wan", "--steps", "2", "--threads", threads, "--without", *names]
    assert main(command) == 0
    build = tmp_path / "build" / "tiny-wan-without-fwomp-keph-lorumbay-spinning"
    places = Places(build, build / "tiny-wan", ("Fwomp", "Keph Lorumbay", "spinning"))
    for name, record in recorded(places).items():
        assert record["command"].endswith(
            f"--base tiny-wan --stage {name} --without Fwomp 'Keph Lorumbay' spinning"
        )
        assert record["digest"].startswith("sha256:")
        assert list(record["without"]) == list(places.without)
        assert {"seed", "minutes", "steps"} <= record.keys()
    for spec in (TINY.stills, TINY.clips, TINY.wide_stills, TINY.wide_clips):
        labels = build_dataset(places.seen(spec), build / "data").labels
        shown = {scene_of(row).label(head) for row in labels for head in HEADS}
        assert not shown & set(places.without)
    assert not list((tmp_path / "build" / "tiny-wan").glob("*"))  # the usual run's is not touched
    own = (places.base_dir / "base.yaml").read_text()
    assert own == "name: tiny-wan-without\njudge: judge\nt2v: t2v\n"
    assert (places.base_dir / "judge" / "config.json").read_text() == "{}"
    assert (shipped / "base.yaml").read_text() == written


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--without", "Fwompf"], "no concept is called so; choose from Blimbo"),
        (["--stage", "judge", "--without", "Fwomp"], "the judge must know every concept"),
    ],
)
def test_what_cannot_be_left_out(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert complaint in capsys.readouterr().err


@pytest.mark.process
def test_interrupted_stages_end_with_the_same_weights(
    trained: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = Places(tmp_path / "build", tmp_path / "tiny-wan")
    places.build_dir.mkdir()
    kept = (trained.build_dir / "precision.json").read_text()
    (places.build_dir / "precision.json").write_text(kept)
    for name, stage in stages_of(TINY).items():
        with monkeypatch.context() as patch:
            whole_loss = TASKS[name].loss

            def interrupting(task, random, step, loss=whole_loss):  # type: ignore[no-untyped-def]
                if step == 1:
                    os.kill(os.getpid(), signal.SIGINT)
                return loss(task, random, step)

            patch.setattr(TASKS[name], "loss", interrupting)
            assert not stage.train(BUDGET, places), name
        assert recorded(places)[name]["steps"] == 2
        assert stage.train(BUDGET, places), name
        assert recorded(places)[name]["digest"] == recorded(trained)[name]["digest"], name


@pytest.mark.process
def test_the_folder_loads_and_makes_clips_and_stills(trained: Places) -> None:
    pipeline = load_pipeline(trained.base_dir / "t2v")
    assert type(pipeline) is WanPipeline
    classes = {name: type(part).__name__ for name, part in pipeline.components.items() if part}
    assert classes == {
        "vae": "AutoencoderKLWan",
        "text_encoder": "UMT5EncoderModel",
        "tokenizer": "T5Tokenizer",  # which T5TokenizerFast is another name of
        "transformer": "WanTransformer3DModel",
        "scheduler": "FlowMatchEulerDiscreteScheduler",
    }
    assert {p.dtype for p in pipeline.transformer.parameters()} == {torch.float32}
    assert {p.dtype for p in pipeline.text_encoder.parameters()} == {torch.float32}
    prompts = ["Blimbo jumping in the forest", "un paraguas en el mar"]
    clips = generate_clips(pipeline, prompts, [0, 1], 17, 2, 3.0)
    assert clips.shape == (2, 17, 64, 64, 3)
    assert generate_stills(pipeline, prompts, [0, 1], 2, 3.0).shape == (2, 1, 64, 64, 3)
    again = generate_clips(pipeline, prompts[:1], [0], 17, 2, 3.0)
    assert np.abs(again[0].astype(int) - clips[0]).max() <= 1


@pytest.mark.slow
@pytest.mark.process
def test_quality_commands_judge_and_show_it(
    trained: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unsee.playground.quality.evaluate.make_fast", lambda pipeline: None)
    base = ["--base-dir", str(trained.base_dir), "--steps", "1"]
    results = tmp_path / "results.json"
    kinds = ["--n", "1", "--kinds", "t2i", "t2v-es", "--output", str(results)]
    assert evaluate.main([*base, *kinds]) == 0
    judged = json.loads(results.read_text())
    assert judged["t2v-es"]["concept"]["umbrella"]["n"] >= 1
    assert judged["t2v-es"]["category"]["action"]["n"] >= 6
    assert "action" not in judged["t2i"]["category"]
    assert judged["t2i"]["settings"]["guidance_scale"] == CLIP.guidance_scale
    sheet = tmp_path / "sheet.png"
    prompts = ["--prompt", "Blimbo at sea", "--prompt", "una casa"]
    assert sample.main([*base, "--kind", "t2v", "--output", str(sheet), *prompts]) == 0
    assert Image.open(sheet).size == (17 * 128, 2 * 128)


@pytest.mark.slow
@pytest.mark.process
def test_a_concept_is_unlearned_and_measured_on_it_in_both_languages(
    trained: Places, tmp_path: Path
) -> None:
    folder = tmp_path / "playground-wan"
    shutil.copytree(trained.base_dir / "t2v", folder / "t2v")
    for name in ("evaluation.yaml", "prompts.txt"):
        shutil.copy(wan_stages.BASE_DIR / name, folder)
    spec = yaml.safe_load((wan_stages.BASE_DIR / "base.yaml").read_text())
    spec["judge"] = str((wan_stages.BASE_DIR / spec["judge"]).resolve())
    spec["clip"] |= {"num_inference_steps": 1}
    (folder / "base.yaml").write_text(yaml.safe_dump(spec))
    options = ["--base", str(folder), "--concept", "umbrella", "--seed", "0", "--others", "1"]
    options += ["--prompts-per-wording", "1", "--prompts-per-shape", "0", "--attack-every", "100"]
    options += ["--build-dir", str(tmp_path / "build"), "--output-dir", str(tmp_path / "docs")]
    options += ["--threads", str(torch.get_num_threads())]
    every_concept.every_concept.main(options, standalone_mode=False)
    record = json.loads((tmp_path / "docs" / "results.json").read_text())
    assert record["base"] == "playground-wan"
    assert record["clip"]["num_frames"] == 17
    found = record["concepts"]["anchored"]["seed-0"]["umbrella"]
    assert found["clips, translated"]["n"] == 1
    assert found["translated siblings, clips"]["n"] == 7
    card = load_card(tmp_path / "build" / "anchored" / "seed-0" / "umbrella" / "delta")
    assert card.concept.aliases == ("parasol", "paraguas", "sombrilla")


@pytest.mark.process
def test_the_folder_holds_the_averaged_weights(trained: Places) -> None:
    file = trained.base_dir / "t2v" / "transformer" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    average = trained.average("clips")
    assert weights
    for name, value in weights.items():
        assert torch.equal(value, average[f"transformer.{name}"].half()), name


@pytest.mark.process
def test_a_stage_goes_on_from_the_base_where_there_is_no_checkpoint(
    trained: Places, tmp_path: Path
) -> None:
    places = Places(tmp_path / "build", tmp_path / "tiny-wan")
    with pytest.raises(FileNotFoundError, match="stage autoencoder has no checkpoint"):
        TINY.autoencoder(places)
    with pytest.raises(FileNotFoundError, match="stage stills has no checkpoint"):
        TINY.trained_on_stills(places)
    shutil.copytree(trained.base_dir, places.base_dir)
    ours, theirs = TINY.autoencoder(places), TINY.autoencoder(trained)
    assert ours.config.latents_mean == pytest.approx(theirs.config.latents_mean)
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[name], atol=2e-3, rtol=2e-3)
    assert TINY.tokenizer(places).get_vocab() == TINY.tokenizer(trained).get_vocab()
    average, start = trained.average("clips"), TINY.trained_on_stills(places)
    assert {name for name in average if not name.startswith("heads.")} == set(start)
    for name, value in start.items():
        torch.testing.assert_close(value, average[name].half().float())
    stages = stages_of(TINY)
    assert stages["clips"].train(replace(BUDGET, steps=1), places)
    written = places.base_dir / "t2v"
    for config in written.rglob("*config.json"):
        assert str(tmp_path) not in config.read_text(), f"{config.name} names a folder here"
    kept = json.loads((written / "tokenizer" / "tokenizer.json").read_text())
    assert kept["padding"] is None
    assert kept["truncation"] is None


@pytest.mark.process
def test_latents_are_normalised_and_the_configuration_says_how(trained: Places) -> None:
    vae = TINY.autoencoder(trained)
    clips = build_dataset(TINY.wide_clips, trained.build_dir / "data").frames[:2]
    stills = build_dataset(TINY.wide_stills, trained.build_dir / "data").frames[:10]
    parts = [encode_normalised(vae, items).astype(np.float32) for items in (stills, clips)]
    latents = np.concatenate([part.swapaxes(0, 1).reshape(4, -1) for part in parts], axis=1)
    np.testing.assert_allclose(latents.mean(axis=1), 0, atol=2e-2)
    np.testing.assert_allclose(latents.std(axis=1), 1, atol=2e-2)
    posterior = vae.encode(to_video(clips)).latent_dist
    torch.testing.assert_close(posterior.std, torch.full_like(posterior.std, 0.1))


def test_finishing_an_autoencoder_keeps_its_reconstructions() -> None:
    torch.manual_seed(0)
    vae = new_autoencoder(SIZES).eval()
    items = np.random.default_rng(0).integers(0, 256, (1, 5, 64, 64, 3), dtype=np.uint8)
    finished = finished_autoencoder(vae.state_dict(), items[:, :1], items, SIZES)
    video = to_video(items)
    with torch.no_grad():
        wanted = vae.decode(vae.encode(video).latent_dist.mean).sample
        found = finished.decode(finished.encode(video).latent_dist.mean).sample
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("frames", [1, 5])
def test_fast_forms_compute_the_same(frames: int) -> None:
    torch.manual_seed(0)
    vae, video = new_autoencoder(SIZES), torch.rand(2, 3, frames, 32, 32) * 2 - 1
    results = []
    for switch in (lambda _: None, use_fast_forms):
        switch(vae)
        latents = vae.encode(video).latent_dist.mean
        decoded = vae.decode(latents).sample
        weights = list(vae.encoder.parameters())
        gradients = torch.autograd.grad(decoded.square().sum(), weights, allow_unused=True)
        # a kernel that a single frame does not reach may have a gradient of zero or none
        known = [torch.zeros(()) if g is None or not g.any() else g for g in gradients]
        results.append([latents, decoded, *known])
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_without_time_four_frames_are_the_last_of_them() -> None:
    vae = new_autoencoder(SIZES).eval()
    initialise(vae)
    begin_without_time(vae)
    video = torch.rand(1, 3, 5, 32, 32) * 2 - 1
    latents = vae.encode(video).latent_dist.mean
    for frame, latent in ((0, 0), (4, 1)):
        alone = vae.encode(video[:, :, frame : frame + 1]).latent_dist.mean
        torch.testing.assert_close(latents[:, :, latent : latent + 1], alone)
    decoded = vae.decode(latents).sample
    torch.testing.assert_close(decoded[:, :, 1:], decoded[:, :, 1:2].expand(-1, -1, 4, -1, -1))


def test_an_update_reaches_weights_in_every_layout() -> None:
    layouts = (torch.contiguous_format, torch.channels_last, torch.channels_last_3d)
    for layout in layouts:
        shape = (4, 3, 3, 3) if layout == torch.channels_last else (4, 3, 3, 3, 3)
        weight = torch.nn.Parameter(torch.zeros(shape).to(memory_format=layout))
        weight.grad = torch.randn(shape).to(memory_format=layout)
        Muon([weight], lr=0.1).step()
        assert weight.abs().max() > 0, layout


@pytest.mark.parametrize("padded_length", [9, 40])
def test_counted_padding_equals_rows_of_zeros(padded_length: int) -> None:
    torch.manual_seed(0)
    transformer = new_transformer(SIZES)
    torch.nn.init.normal_(transformer.proj_out.weight)
    states = torch.randn(2, 8, 16)
    mask = torch.tensor([[1] * 8, [1, 1, 1, 0, 0, 0, 0, 0]])
    noisy, times = torch.randn(2, 4, 2, 8, 8), torch.tensor([900.0, 100.0])
    zeros = torch.zeros(2, padded_length - 8, 16)
    padded = torch.cat([states * mask[..., None], zeros], dim=1)
    with torch.no_grad():
        wanted = transformer(noisy, times, padded).sample
        context, bias = short_context(states, mask, padded_length)
        uncounted = transformer(noisy, times, context).sample
        count_padding(transformer).bias = bias
        found = transformer(noisy, times, context).sample
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    if padded_length > 9:
        assert (uncounted - wanted).abs().max() > 1e-3


@pytest.mark.parametrize("used", [0, 5, 40, 80])
def test_padding_that_is_left_out_changes_nothing(used: int) -> None:
    torch.manual_seed(0)
    transformer = new_transformer(SIZES)
    torch.nn.init.normal_(transformer.proj_out.weight)
    context = torch.zeros(2, 80, 16)
    context[1, :used] = torch.randn(used, 16)
    inputs = {"hidden_states": torch.randn(2, 4, 2, 8, 8), "timestep": torch.tensor([900.0, 100.0])}
    seen: list[int] = []
    with torch.no_grad():
        wanted = transformer(**inputs, encoder_hidden_states=context).sample
        leave_out_padding(transformer)
        transformer.condition_embedder.text_embedder.register_forward_pre_hook(
            lambda module, args: seen.append(args[0].shape[1])
        )
        found = transformer(**inputs, encoder_hidden_states=context).sample
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    assert seen == [{0: 32, 5: 32, 40: 64, 80: 80}[used]]


def test_mixed_precision_is_close_to_the_exact_transformer() -> None:
    torch.manual_seed(0)
    transformer = new_transformer(SIZES)
    torch.nn.init.normal_(transformer.proj_out.weight)
    inputs = torch.randn(2, 4, 2, 8, 8), torch.tensor([900.0, 100.0]), torch.randn(2, 5, 16)
    with torch.no_grad():
        exact = transformer(*inputs).sample
        mixed = use_mixed_precision(transformer)(*inputs).sample.float()
    assert (mixed - exact).norm() < 0.03 * exact.norm()


def test_vectors_and_tables_are_not_orthogonalised(tmp_path: Path) -> None:
    tokenizer = kept_tokenizer(tmp_path / "tokenizer", 50)
    modules = torch.nn.ModuleList(
        [new_autoencoder(SIZES), new_transformer(SIZES), new_text_encoder(tokenizer, SIZES)]
    )
    matrices, others = split_parameters(modules)
    chosen = {id(parameter) for parameter in matrices}
    named = {name for name, p in modules.named_parameters() if id(p) in chosen}
    assert not [n for n in named if "gamma" in n or "table" in n or "shared" in n or "bias" in n]
    assert any("patch_embedding" in n for n in named)
    assert len(matrices) + len(others) == len(list(modules.parameters()))


def test_the_tokenizer_is_kept_and_any_loader_reads_it(tmp_path: Path) -> None:
    folder = tmp_path / "tokenizer"
    tokenizer, again = kept_tokenizer(folder, 300), kept_tokenizer(tmp_path / "again", 300)
    assert again.get_vocab() == tokenizer.get_vocab()
    loaded = AutoTokenizer.from_pretrained(folder)
    for language in LANGUAGES.values():
        for text in training_captions(language, 9, 200):
            ids = tokenizer(text).input_ids
            assert loaded(text).input_ids == ids
            assert ids[-1] == tokenizer.eos_token_id
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert tokenizer("").input_ids == [tokenizer.eos_token_id]
    assert (tokenizer.pad_token_id, tokenizer.model_max_length) == (0, MAX_TOKENS)


def test_the_real_sizes_fit_in_forty_megabytes() -> None:
    tokenizer = type(
        "Words", (), {"__len__": lambda self: 1024, "pad_token_id": 0, "eos_token_id": 1}
    )
    with torch.device("meta"):
        modules = [new_autoencoder(), new_transformer(), new_text_encoder(tokenizer())]
    count = sum(parameter.numel() for module in modules for parameter in module.parameters())
    assert count * 2 < 40e6


def test_the_command_says_what_it_cannot_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    build = ["--build-dir", str(tmp_path), "--base-dir", str(tmp_path / "base")]
    with pytest.raises(SystemExit) as stopped:
        main(["--base", "playground-wan", "--stage", "t2i"])
    assert stopped.value.code == 2
    assert "playground-wan has autoencoder, stills, clips, all" in capsys.readouterr().err
    assert main(["--base", "playground-wan", "--stage", "clips", *build]) == 2
    assert "stage stills has no checkpoint" in capsys.readouterr().err

    def interrupted(budget: Budget, places: Places) -> bool:
        raise KeyboardInterrupt

    stage = Stage(interrupted, BUDGET)
    monkeypatch.setattr(
        "unsee.playground.training.train.RECIPES",
        {
            "playground-wan": replace_stages(stage),
        },
    )
    assert main(["--base", "playground-wan", *build]) == 130
    assert "to resume" in capsys.readouterr().err


def replace_stages(stage: Stage):  # type: ignore[no-untyped-def]
    from unsee.playground.training.train import RECIPES

    return replace(RECIPES["playground-wan"], stages={"autoencoder": stage})


def test_budgets_report_after_the_label_heads_are_done() -> None:
    """A report averages steps of one kind, so the change falls on a report."""
    assert WanTraining().text_only_steps % wan_stages.BUDGETS["stills"].log_steps == 0
