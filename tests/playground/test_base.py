"""The base that is checked in: it loads, it is small, and the judge is right about renders."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, TextToVideoSDPipeline
from tokenizers import Tokenizer
from transformers import CLIPTokenizer

from unsee.playground.networks import models
from unsee.playground.networks.judge import Judge
from unsee.playground.networks.tokenizer import training_captions
from unsee.playground.quality.evaluate import (
    Trial,
    autoencoder_of,
    covering_prompts,
    judge_accuracy,
    named_in,
    reconstructed,
)
from unsee.playground.quality.generate import generate_clips, generate_stills, load_pipeline
from unsee.playground.training.train_data import BASE_DIR
from unsee.playground.world.captions import canonical_prompt
from unsee.playground.world.render import render_clip
from unsee.playground.world.world import CONCEPTS, NUM_FRAMES, Scene, concepts_in, find_concept

STRANGE = ("", " ", "Ünïcödé 漢字 🙂", "a zebra's 1234 marmalades!", "\n\ttabs", "<|endoftext|>")


def test_tokenizers_agree() -> None:
    folder = BASE_DIR / "t2i" / "tokenizer"
    slow = CLIPTokenizer.from_pretrained(folder)
    fast = Tokenizer.from_file(str(folder / "tokenizer.json"))
    fast.no_padding()  # the file carries the padding of whoever saved it
    for text in [*training_captions(99, 1000), *STRANGE]:
        assert slow(text).input_ids == fast.encode(text).ids, text
    assert slow.model_max_length == models.MAX_TOKENS
    assert slow.pad_token_id == slow.eos_token_id


def test_vocabulary_and_merges_rebuild_the_tokenizer() -> None:
    folder = BASE_DIR / "t2i" / "tokenizer"
    whole = CLIPTokenizer.from_pretrained(folder)
    rebuilt = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    for text in training_captions(98, 50):
        assert whole(text).input_ids == rebuilt(text).input_ids


def test_captions_fit_the_encoder() -> None:
    tokenizer = CLIPTokenizer.from_pretrained(BASE_DIR / "t2i" / "tokenizer")
    longest = max(len(tokenizer(text).input_ids) for text in training_captions(97, 2000))
    assert longest <= models.MAX_TOKENS


def test_t2i_loads_and_generates_reproducibly() -> None:
    pipeline = load_pipeline(BASE_DIR / "t2i")
    assert isinstance(pipeline, StableDiffusionPipeline)
    prompts = ["Blimbo", "a car"]
    first = generate_stills(pipeline, prompts, [1, 2], num_inference_steps=2)
    again = generate_stills(pipeline, prompts, [1, 2], num_inference_steps=2)
    assert first.shape == (2, 1, 64, 64, 3)
    np.testing.assert_array_equal(first, again)


def test_t2v_loads_and_shares_the_encoder() -> None:
    pipeline = load_pipeline(BASE_DIR / "t2v")
    assert isinstance(pipeline, TextToVideoSDPipeline)
    clip = generate_clips(pipeline, ["Blimbo jumping"], [1], num_inference_steps=2)
    assert clip.shape == (1, NUM_FRAMES, 64, 64, 3)
    for part in ("text_encoder", "tokenizer", "vae"):
        link = BASE_DIR / "t2v" / part
        assert link.is_symlink()
        assert link.readlink() == Path("..") / "t2i" / part


def test_stills_show_what_is_prompted() -> None:
    judge, pipeline = Judge.from_pretrained(BASE_DIR / "judge"), load_pipeline(BASE_DIR / "t2i")
    concepts = [c for c in CONCEPTS if c.category in ("character", "object")]
    prompts = [canonical_prompt(concept) for concept in concepts]
    stills = generate_stills(pipeline, prompts, list(range(len(prompts))))
    verdicts = zip(concepts, judge.classify(stills), strict=True)
    seen = [verdict.sees(concept.name) for concept, verdict in verdicts]
    assert np.mean(seen) >= 0.8


def test_base_is_small() -> None:
    files = [f for f in BASE_DIR.rglob("*") if f.is_file() and not f.is_symlink()]
    weights = [f for f in files if f.suffix == ".safetensors" and "t2v/vae" not in str(f)]
    assert sum(f.stat().st_size for f in weights) <= 60e6
    assert not [f for f in files if f.suffix in (".bin", ".pt", ".pth", ".pkl", ".ckpt")]


def test_judge_is_right_about_renders() -> None:
    judge = Judge.from_pretrained(BASE_DIR / "judge")
    for head, found in judge_accuracy(judge, seed=987, num_stills=100, num_clips=50).items():
        assert found["right"] >= 0.98 * found["n"], head


def test_an_autoencoder_gives_back_what_the_judge_knows() -> None:
    judge = Judge.from_pretrained(BASE_DIR / "judge")
    seen = partial(reconstructed, autoencoder_of(BASE_DIR))
    found = judge_accuracy(judge, 988, num_stills=40, num_clips=4, num_frames=5, seen=seen)
    for head in ("subject, stills", "style, stills"):
        assert found[head]["right"] >= 0.9 * found[head]["n"], head


def test_judge_sees_no_action_in_one_frame() -> None:
    judge = Judge.from_pretrained(BASE_DIR / "judge")
    for action in concepts_in("action"):
        moving = render_clip(Scene(subject="Zorpik", action=action.name))
        frozen = moving[[5] * len(moving)]
        verdicts = judge.classify(np.stack([moving, frozen]))
        assert [verdict.action for verdict in verdicts] == [action.name, None]


def test_covering_prompts_name_every_concept_often_enough() -> None:
    cases = covering_prompts(CONCEPTS, 5, np.random.default_rng(0))
    named = Counter(name for _, scene in cases for name in named_in(scene))
    assert min(named[concept.name] for concept in CONCEPTS) >= 5
    assert len(cases) < 5 * len(CONCEPTS)


def test_prompts_of_stills_name_no_action() -> None:
    shown = [concept for concept in CONCEPTS if concept.category != "action"]
    cases = covering_prompts(shown, 5, np.random.default_rng(0))
    assert all(scene.action is None for _, scene in cases)


def test_trial_counts_what_the_prompt_named() -> None:
    still = Judge.from_pretrained(BASE_DIR / "judge").classify(
        render_clip(Scene(subject="car", background="desert"))[None, :1]
    )[0]
    trial = Trial(Scene(subject="car", background="ocean"), still)
    assert trial.outcomes() == {"car": True, "ocean": False}


def test_verdict_answers_by_name_and_alias() -> None:
    judge = Judge.from_pretrained(BASE_DIR / "judge")
    clip = render_clip(Scene(subject="car", action="sliding"))
    still, moving = judge.classify(clip[None, :1])[0], judge.classify(clip[None])[0]
    assert moving.sees("automobile")
    assert not moving.sees("tree")
    assert moving.sees("sliding")
    assert still.action is None
    assert find_concept("automobile").name == still.subject


def test_judge_refuses_other_arrays() -> None:
    judge = Judge()
    with pytest.raises(ValueError, match="uint8"):
        judge.classify(np.zeros((1, 64, 64, 3), dtype=np.uint8))


def test_inflated_video_unet_equals_the_image_unet() -> None:
    torch.manual_seed(0)
    image, video = models.new_image_unet().eval(), models.new_video_unet().eval()
    assert models.inflate(image, video) == len(image.state_dict())
    clips, context = torch.randn(1, models.LATENT_CHANNELS, 3, 8, 8), torch.randn(1, 5, 256)
    with torch.no_grad():
        whole = video(clips, torch.tensor([300]), context).sample
        for frame in range(3):
            single = image(clips[:, :, frame], torch.tensor([300]), context).sample
            torch.testing.assert_close(whole[:, :, frame], single, atol=1e-4, rtol=1e-4)


def test_every_temporal_layer_can_learn_after_inflation() -> None:
    torch.manual_seed(0)
    video = models.new_video_unet()
    models.inflate(models.new_image_unet(), video)
    clips, context = torch.randn(1, models.LATENT_CHANNELS, 3, 8, 8), torch.randn(1, 5, 256)
    video(clips, torch.tensor([300]), context).sample.square().mean().backward()
    last = [
        p
        for name, p in video.named_parameters()
        if name.endswith("conv4.3.weight") or ("temp" in name and "proj_out.weight" in name)
    ]
    assert len(last) > 10
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in last)
