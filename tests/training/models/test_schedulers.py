"""What a base's scheduler files come to: served, refused in a sentence, or changed by base.yaml."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from hypothesis import assume, given, settings

from fakes import change_json, change_yaml
from motion_fakes import write_motion_base
from scheduler_fakes import made, schedulers
from unsee.core.errors import BaseFolderError
from unsee.models.base import load_base
from unsee.models.pipelines.noise import diffusion_by_betas, flow_matching
from unsee.models.sampling.options import flow_shift, is_flow_matching
from unsee.models.sampling.unit_impulses import sampler_table
from unsee.models.schedulers import (
    DISTILLED,
    FLOW_DISTILLED,
    FLOW_MATCHING,
    MOTION_OVERRIDES,
    OFFERED,
    offered_schedulers,
)

STABLE_DIFFUSION = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
PNDM = {**STABLE_DIFFUSION, "skip_prk_steps": True, "steps_offset": 1, "clip_sample": False}


@pytest.fixture
def base_with(base_dir, tmp_path):
    """The tiny base with other schedulers in its folders and other options in its base.yaml."""

    def base_with(t2v=None, t2i=None, options=None):
        folder = tmp_path / f"base-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(base_dir, folder, symlinks=True)
        for model, scheduler in (("t2v", t2v), ("t2i", t2i)):
            if scheduler is not None:
                name, config = scheduler
                change_json(folder / model / "model_index.json", scheduler=["diffusers", name])
                file = folder / model / "scheduler" / "scheduler_config.json"
                file.write_text(json.dumps({"_class_name": name, **config}))
        if options is not None:
            change_yaml(folder / "base.yaml", schedulers=options)
        return load_base(folder)

    return base_with


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("PNDMScheduler", PNDM),
        ("PNDMScheduler", {**PNDM, "clip_sample": True}),  # of which PNDM has none
        ("LCMScheduler", {**STABLE_DIFFUSION, "original_inference_steps": 50}),
        ("HeunDiscreteScheduler", STABLE_DIFFUSION),
        ("KDPM2DiscreteScheduler", STABLE_DIFFUSION),
        ("LMSDiscreteScheduler", STABLE_DIFFUSION),
        ("DEISMultistepScheduler", STABLE_DIFFUSION),
        ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
        ("FlowMatchHeunDiscreteScheduler", {"shift": 3.0}),
        ("TCDScheduler", STABLE_DIFFUSION),
        ("EDMEulerScheduler", {}),
    ],
)
def test_the_folder_s_own_scheduler_is_the_default_and_never_another(base_with, name, config):
    base = base_with(t2v=(name, config))
    offer = offered_schedulers(base)
    assert offer.own == next(iter(offer.offered)) == name
    assert offer.offered[name] is base.t2v_scheduler()
    assert not set(offer.offered) & set(offer.not_offered)
    assert f"schedulers: {name} (default)" in offer.in_words()


def test_the_offer_has_the_same_noise_schedule_or_says_why_not(base_with):
    offer = offered_schedulers(base_with(t2v=("PNDMScheduler", PNDM)))
    assert set(offer.offered) == set(OFFERED)
    assert set(offer.not_offered) == set(DISTILLED)
    alphas = offer.offered["PNDMScheduler"].alphas_cumprod
    for scheduler in offer.offered.values():
        assert torch.allclose(scheduler.alphas_cumprod, alphas, atol=1e-6)


def test_an_option_that_the_file_leaves_out_is_the_other_class_s_own(base_with):
    config = {"clip_sample": False, **STABLE_DIFFUSION}
    for said, expected in (({"timestep_spacing": "leading"}, "leading"), ({}, "linspace")):
        offer = offered_schedulers(base_with(t2v=("DDIMScheduler", config | said)))
        assert offer.offered["DDIMScheduler"].config.timestep_spacing == "leading"
        assert offer.offered["EulerDiscreteScheduler"].config.timestep_spacing == expected


def test_a_zero_terminal_snr_is_not_lost_on_schedulers_that_know_none(base_with):
    config = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "clip_sample": False}
    config |= {"prediction_type": "v_prediction", **STABLE_DIFFUSION}
    offer = offered_schedulers(base_with(t2v=("DDIMScheduler", config)))
    assert "EulerDiscreteScheduler" in offer.offered
    assert "another noise schedule" in offer.not_offered["PNDMScheduler"]
    assert "another noise schedule" in offer.not_offered["HeunDiscreteScheduler"]


def test_flow_matching_gets_no_betas(base_with):
    offer = offered_schedulers(base_with(t2v=("FlowMatchEulerDiscreteScheduler", {"shift": 5.0})))
    assert set(offer.offered) == set(FLOW_MATCHING)
    assert set(offer.not_offered) == set(FLOW_DISTILLED)
    table = sampler_table(offer.offered["FlowMatchEulerDiscreteScheduler"], 4)
    assert table.initial == pytest.approx(np.ones(5))
    assert table.timesteps[0] == pytest.approx(1000)
    assert table.pred[4].sum() == pytest.approx(-1), "from noise at 1 to the clip at 0"


FLOWS = [
    ("FlowMatchEulerDiscreteScheduler", {"shift": 5.0}),
    ("UniPCMultistepScheduler", {"use_flow_sigmas": True, "flow_shift": 5.0}),
]


@pytest.mark.parametrize("own", FLOWS, ids=lambda own: own[0])
def test_every_scheduler_of_a_flow_has_the_shift_of_the_folder_s(base_with, own):
    name, config = own
    prediction = {"prediction_type": "flow_prediction"} if "flow_shift" in config else {}
    offer = offered_schedulers(base_with(t2v=(name, {**config, **prediction})))
    assert set(offer.offered) == set(FLOW_MATCHING)
    for other, scheduler in offer.offered.items():
        assert flow_shift(scheduler) == 5.0, other
        table = sampler_table(scheduler, 4)
        assert table.timesteps[0] == pytest.approx(1000, abs=1.5), other
        assert table.timesteps[1] > 900, other  # of a shift of 1 it is 750
        assert table.pred[-1].sum() == pytest.approx(-1, abs=2e-3), other


def test_a_flow_s_levels_that_another_class_cannot_visit_are_not_offered_in_it(base_with):
    own = ("FlowMatchEulerDiscreteScheduler", {"shift": 5.0, "shift_terminal": 0.1})
    offer = offered_schedulers(base_with(t2v=own))
    assert "UniPCMultistepScheduler" in offer.offered
    assert "another noise schedule" in offer.not_offered["DPMSolverMultistepScheduler"]


@pytest.mark.parametrize("own", FLOWS, ids=lambda own: own[0])
def test_a_class_that_base_yaml_names_keeps_the_folder_s_shift(base_with, own):
    (other,) = {name for name, _ in FLOWS} - {own[0]}
    kept = base_with(t2v=own, options={"t2v": {"class": other}}).t2v_scheduler()
    assert (type(kept).__name__, flow_shift(kept)) == (other, 5.0)
    assert is_flow_matching(kept)


def test_a_shift_of_base_yaml_is_taken(base_with):
    options = {"class": "UniPCMultistepScheduler", "flow_shift": 3.0}
    scheduler = base_with(t2v=FLOWS[0], options={"t2v": options}).t2v_scheduler()
    assert flow_shift(scheduler) == 3.0


@pytest.mark.parametrize("name", ["FlowMatchEulerDiscreteScheduler", "FlowMatchLCMScheduler"])
def test_a_shift_of_base_yaml_is_taken_by_a_class_that_calls_it_otherwise(base_with, name):
    options = {"class": name, "shift": 8.0}
    base = base_with(t2v=FLOWS[1], options={"t2v": options})
    assert flow_matching(base.t2v_scheduler(), "its file").shift == 8.0
    offered = offered_schedulers(base).offered
    assert {flow_shift(scheduler) for scheduler in offered.values()} == {8.0}
    table = sampler_table(offered["UniPCMultistepScheduler"], 4)
    assert table.timesteps[1] > 950  # with the folder's 5 it is 937


def test_equal_timesteps_at_the_start_skip_no_step():
    options = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 12.0}
    table = sampler_table(made("UniPCMultistepScheduler", **options), 100)
    assert table.timesteps[0] == table.timesteps[1] == 999
    assert table.pred[1, 0] == pytest.approx(-8.5e-4, rel=0.1)  # the first step, not the second


@pytest.mark.parametrize(
    ("name", "config", "words"),
    [
        (
            "DDIMScheduler",
            {"clip_sample": True},
            "DDIMScheduler that has clip_sample on.*set clip_sample to false",
        ),
        ("DDIMScheduler", {}, "has clip_sample on"),  # diffusers' own default
        (
            "DPMSolverMultistepScheduler",
            {"thresholding": True},
            "has thresholding on, .*; set thresholding to false",
        ),
        (
            "DDIMScheduler",
            {
                "clip_sample": False,
                "rescale_betas_zero_snr": True,
                "timestep_spacing": "trailing",
                "prediction_type": "epsilon",
            },
            "not finite.*rescale_betas_zero_snr .* prediction_type is 'epsilon'",
        ),
        (
            "PNDMScheduler",
            {**PNDM, "prediction_type": "sample"},
            "cannot make 3 steps: prediction_type given as sample .*; change its options in that",
        ),
        ("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True}, "cannot make .*mu"),
        ("KarrasVeScheduler", {}, "cannot make"),
    ],
)
def test_what_cannot_be_served_is_refused_by_file_and_value(base_with, name, config, words):
    base = base_with(t2v=(name, config))
    with pytest.raises(BaseFolderError, match=words) as caught:
        offered_schedulers(base)
    assert "t2v/scheduler/scheduler_config.json" in str(caught.value)
    assert "schedulers.t2v of base.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_of_base_yaml_take_the_place_of_the_file_s_in_either_model(base_with):
    options = {"t2v": {"class": "EulerDiscreteScheduler", "beta_schedule": "linear"}}
    options["t2i"] = {"trained_betas": np.linspace(0.001, 0.002, 1000).tolist()}
    base = base_with(t2v=("PNDMScheduler", PNDM), t2i=("PNDMScheduler", PNDM), options=options)
    video = base.t2v_scheduler()
    assert type(video).__name__ == "EulerDiscreteScheduler"
    assert video.config.beta_schedule == "linear"
    assert video.config.beta_end == 0.012
    assert offered_schedulers(base).own == "EulerDiscreteScheduler"
    process = diffusion_by_betas(base.scheduler("image"), "its file").scheduler
    assert float(process.betas[-1]) == pytest.approx(0.002)
    assert type(base.scheduler("image")).__name__ == "PNDMScheduler"


def test_a_refused_option_is_put_right_by_base_yaml(base_with):
    clipped = ("DDIMScheduler", {**STABLE_DIFFUSION, "clip_sample": True})
    base = base_with(t2v=clipped, options={"t2v": {"clip_sample": False}})
    assert offered_schedulers(base).own == "DDIMScheduler"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"class": "NoSuchScheduler"}, "names the class NoSuchScheduler, not in diffusers"),
        ({"class": "UNet2DModel"}, "names the class UNet2DModel"),
        (
            {"beta_shedule": "linear"},
            "sets beta_shedule, which a PNDMScheduler has not; it has",
        ),
        ({"beta_schedule": "cubic"}, "does not fit a PNDMScheduler: cubic is not implemented"),
    ],
)
def test_a_wrong_option_of_base_yaml_is_refused_by_name(base_with, options, words):
    base = base_with(t2v=("PNDMScheduler", PNDM), options={"t2v": options})
    with pytest.raises(BaseFolderError, match=f"schedulers.t2v of base.yaml {words}"):
        base.t2v_scheduler()


def test_an_image_model_without_betas_cannot_be_unlearned_with(base_with):
    base = base_with(t2i=("FlowMatchEulerDiscreteScheduler", {}))
    with pytest.raises(BaseFolderError, match=r"t2i/scheduler/.*FlowMatchEuler.*has no betas"):
        offered_schedulers(base)


@pytest.mark.parametrize("name", ["DDIMScheduler", "PNDMScheduler"])
def test_a_motion_adapter_without_its_makers_schedule_is_warned_about(base_dir, tmp_path, name):
    image = shutil.copytree(base_dir, tmp_path / "image", symlinks=True)
    change_json(image / "t2i" / "model_index.json", scheduler=["diffusers", name])
    folder = write_motion_base(image, tmp_path)
    file = image / "t2i" / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({"_class_name": name, **PNDM}))
    (warning,) = offered_schedulers(load_base(folder)).warnings
    assert "beta_schedule scaled_linear" in warning
    written = {
        "schedulers": yaml.safe_load(warning.split("write schedulers: ")[1].split(" in ")[0])
    }
    assert written == {"schedulers": {"t2v": MOTION_OVERRIDES}}
    change_yaml(folder / "base.yaml", **written)
    base = load_base(folder)
    assert offered_schedulers(base).warnings == ()
    assert float(base.t2v_scheduler().alphas_cumprod[801]) == pytest.approx(0.0138, abs=1e-4)
    assert float(base.scheduler("image").alphas_cumprod[801]) == pytest.approx(0.0365, abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(schedulers())
def test_unlearning_adds_noise_as_the_image_model_s_scheduler_says(scheduler):
    assume(not isinstance(scheduler, Exception))

    try:
        process = diffusion_by_betas(scheduler, "its file").scheduler
    except BaseFolderError:
        assert not hasattr(scheduler, "alphas_cumprod")
        return
    assert torch.allclose(process.alphas_cumprod, scheduler.alphas_cumprod, atol=1e-6)
    wanted = scheduler.config.prediction_type
    assert process.config.prediction_type == wanted


def test_rows_look_only_at_what_is_already_known():
    table = sampler_table(made("DDPMScheduler", clip_sample=False), 7)
    assert table.noise is not None
    for k in range(8):
        assert not table.pred[k, k:].any()
        assert not table.noise[k, k:].any()
    assert table.initial[0] == pytest.approx(1.0)


def test_pndm_makes_its_warm_up_evaluations():
    table = sampler_table(made("PNDMScheduler", **STABLE_DIFFUSION, skip_prk_steps=True), 5)
    assert table.num_evaluations == 6
    assert table.timesteps[1] == table.timesteps[2]
