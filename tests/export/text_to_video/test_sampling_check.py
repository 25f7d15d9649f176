"""Clips of two sets of graphs: alike where the graphs are, measurably apart where they differ."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnxruntime
import pytest

from unsee.core.errors import NotExportable, ParityError
from unsee.export.text_to_video.sampler_tables import sampler_tables
from unsee.export.text_to_video.sampling_check import (
    SamplingRuns,
    psnr,
    sampling_psnr,
    torch_runnables,
)
from unsee.models.schedulers import offered_schedulers
from unsee.models.spec import ClipDefaults

PROMPTS = ("a red house", "Blimbo jumping")
STEPS = 3


def clip_of(num_frames):
    return ClipDefaults.model_construct(num_frames=num_frames, height=64, width=64)


@pytest.fixture(scope="module")
def tables(tiny_base):
    return sampler_tables(offered_schedulers(tiny_base).offered, STEPS)


@pytest.fixture(scope="module")
def in_torch(tiny_base):
    return torch_runnables(tiny_base)


def in_onnxruntime(repository_dir):
    def runnable(model):
        file = repository_dir / model / "1" / "model.onnx"
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        return lambda **inputs: session.run(None, inputs)[0]

    models = ("text_encoder", "policy_base", "video_denoiser", "vae_decoder")
    return {model: runnable(model) for model in models}


def test_exported_graphs_make_the_clips_that_pytorch_makes(exported, tables, in_torch):
    run = in_onnxruntime(exported.repository_dir)
    args = (exported.base, tables, run, in_torch, exported.base.spec.clip, PROMPTS, STEPS)
    assert sampling_psnr(*args) > 60


def test_a_worse_graph_is_measurably_worse(tiny_base, tables, in_torch):
    clip = clip_of(2)
    found = []
    for error in (0.001, 0.1):
        noise = np.random.default_rng(0)

        def worse(error=error, noise=noise, **inputs):
            prediction = in_torch["video_denoiser"](**inputs)
            return prediction + error * noise.standard_normal(prediction.shape, np.float32)

        run = {**in_torch, "video_denoiser": worse}
        found.append(sampling_psnr(tiny_base, tables, run, in_torch, clip, PROMPTS[:1], STEPS))
    assert found[0] > found[1] + 20


def test_clips_are_guided_by_their_prompts_and_the_same_each_time(tiny_base, tables, in_torch):
    batches = []

    def counted(**inputs):
        batches.append(len(inputs["sample"]))
        return in_torch["video_denoiser"](**inputs)

    run = {**in_torch, "video_denoiser": counted}
    clip = clip_of(3)
    sampling = SamplingRuns(tiny_base, tables, STEPS)
    frames = sampling.clips(run, clip, PROMPTS)
    assert frames.shape == (2, 3, 64, 64, 3)
    assert frames.dtype == np.uint8
    assert batches == [2] * (2 * STEPS)
    again = sampling.clips(in_torch, clip, PROMPTS)
    assert np.array_equal(frames, again)
    other = sampling.clips(in_torch, clip, ("a boat", PROMPTS[1]))
    assert not np.array_equal(other[0], frames[0])
    assert np.array_equal(other[1], frames[1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"clip": clip_of(9)}, "num_frames must be between 1 and 8, not 9"),
        ({"steps": 4}, "no sampler table of 4 steps"),
        ({"prompts": ("word " * 60,)}, "prompt has .* tokens"),
        ({"finite": False}, "not finite"),
    ],
)
def test_a_clip_that_cannot_be_made_is_a_clear_sentence(tiny_base, tables, in_torch, change, words):
    def infinite(**inputs):
        return np.full_like(inputs["sample"], np.inf)

    run = in_torch if change.pop("finite", True) else {**in_torch, "video_denoiser": infinite}
    given = {"clip": clip_of(2), "prompts": PROMPTS[:1], "steps": STEPS} | change
    with pytest.raises(ParityError, match=words), np.errstate(all="ignore"):
        SamplingRuns(tiny_base, tables, given.pop("steps")).clips(run, **given)


def test_whether_the_reference_or_the_other_makes_no_clip_is_told_apart(
    tiny_base, tables, in_torch
):
    def infinite(**inputs):
        return np.full_like(inputs["sample"], np.inf)

    broken, clip = {**in_torch, "video_denoiser": infinite}, clip_of(2)
    for runs, error in (((broken, in_torch), NotExportable), ((in_torch, broken), ParityError)):
        with pytest.raises(error, match="not finite"), np.errstate(all="ignore"):
            sampling_psnr(tiny_base, tables, *runs, clip, PROMPTS[:1], STEPS)


def test_psnr_is_what_it_is_defined_as():
    black = np.zeros((1, 2, 4, 4, 3), np.uint8)
    assert psnr(black, black + 1) == pytest.approx(20 * np.log10(255))
    assert psnr(black, black + 255) == pytest.approx(0)
    one_off = black.copy()
    one_off[0, 0, 0, 0, 0] = 1
    assert psnr(black, black) == psnr(one_off, black) == pytest.approx(10 * np.log10(255**2 * 96))
    with pytest.raises(ValueError, match="cannot be compared"):
        psnr(black, black[:, :1])


WITHOUT_A_PATH = """
import sys
from unsee.export.text_to_video.serving_code import make_importable
before = list(sys.path)
make_importable()
from text_to_video.generation import generate
import text_to_video
assert sys.path == before
print(text_to_video.__file__)
"""


def test_the_serving_code_is_found_without_a_path_to_it():
    command = [sys.executable, "-c", WITHOUT_A_PATH]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip().endswith("text_to_video/1/text_to_video/__init__.py")
