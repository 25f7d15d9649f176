"""What makes pictures and clips, in every pipeline class: as diffusers' own pipelines do it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from pipeline_fakes import SIDE, VIDEO

from fakes import change_json
from unsee.core.errors import BaseFolderError
from unsee.models.base import Base, load_base
from unsee.models.check import check, require
from unsee.models.generative import open_model
from unsee.models.pipelines.model import GenerativeModel, Sampling
from unsee.models.pipelines.noise import FlowMatching, diffusion_by_betas, flow_matching
from unsee.prompts.encoding import encode_ids, encode_prompts, prompt_ids

pytestmark = pytest.mark.torch
PROMPTS = ["Blimbo in a quiet wood", ""]


@pytest.fixture(params=VIDEO)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def base(name: str, pipeline_base_dir: Callable[[str], Path]) -> Base:
    return load_base(pipeline_base_dir(name))


@pytest.fixture
def wan_dir(pipeline_base_dir: Callable[[str], Path]) -> Path:
    return pipeline_base_dir("WanPipeline")


def _embeds(base: Base) -> torch.Tensor:
    return encode_prompts(base, base.text_encoder(), PROMPTS)


def _sampling(base: Base, num_frames: int, guidance_scale: float = 3.0) -> Sampling:
    return Sampling(num_frames, SIDE, SIDE, 2, guidance_scale)


def test_a_base_without_an_image_model_is_whole(name: str, base: Base) -> None:
    assert base.pipeline("image").name == base.pipeline("video").name == name
    assert [finding.problem for finding in check(base) if finding.problem] == []
    assert base.denoiser("image") is base.denoiser("video")
    assert base.vae("image") is base.vae("video")
    assert base.scheduler("image") is base.scheduler("video")


def test_prompts_are_what_encode_prompt_gives(base: Base) -> None:
    model = open_model(base, "video")
    length = base.pipeline().prompts.length
    options: dict[str, Any] = {"max_sequence_length": length}
    if length is None:
        options = {"device": "cpu", "num_images_per_prompt": 1}
    given = model.pipeline.encode_prompt(
        prompt=PROMPTS[0], negative_prompt=PROMPTS[1], do_classifier_free_guidance=True, **options
    )
    ours = _embeds(base)
    if len(given) == 4:  # with the masks, whose complement is zero here
        positive, mask, negative, negative_mask = given
        kept = torch.cat([mask, negative_mask])[..., None]
        theirs = torch.cat([positive, negative]) * kept
    else:
        theirs = torch.cat(given)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


class _Calls:
    """What the denoiser was given and gave, in every call."""

    def __init__(self, model: GenerativeModel) -> None:
        self.seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self._handle = model.parts.denoiser.register_forward_hook(self._keep, with_kwargs=True)

    def _keep(self, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        noisy = args[0] if args else kwargs["hidden_states"]
        timestep = args[1] if len(args) > 1 else kwargs["timestep"]
        sample = output[0] if isinstance(output, tuple) else output.sample
        self.seen.append((noisy.detach(), torch.as_tensor(timestep), sample.detach()))

    def __enter__(self) -> _Calls:
        return self

    def __exit__(self, *raised: object) -> None:
        self._handle.remove()


def _as_latents(model: GenerativeModel, given: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """What the denoiser is given, as latents [N, C, F, h, w]."""
    if model.pipeline_name == "LTXPipeline":
        unpacked: torch.Tensor = model.pipeline._unpack_latents(given, *like.shape[2:])
        return unpacked
    return given.transpose(1, 2) if model.pipeline_name == "CogVideoXPipeline" else given


def _latents(model: GenerativeModel) -> torch.Tensor:
    picture = torch.rand(1, 3, *model.picture_size, generator=torch.Generator().manual_seed(3))
    return model.latents(2 * picture - 1, torch.Generator().manual_seed(1))


def test_the_denoiser_is_called_as_the_pipeline_calls_it(base: Base) -> None:
    model, embeds = open_model(base, "image"), _embeds(base)
    like = _latents(model)
    generators = [torch.Generator().manual_seed(2)]
    with _Calls(model) as calls:
        model.sample(_sampling(base, 1, guidance_scale=1.0), embeds[:1], embeds[1:], generators)
    assert len(calls.seen) == 2
    for given, timestep, said in calls.seen:
        noisy = _as_latents(model, given, like)
        assert noisy.shape == like.shape
        with torch.no_grad():
            found = model.predict(noisy, timestep.reshape(-1), embeds[:1])
        torch.testing.assert_close(found, _as_latents(model, said, like), atol=1e-4, rtol=1e-4)


def test_a_picture_is_a_clip_of_one_frame(base: Base) -> None:
    embeds = _embeds(base)
    frames = {}
    for media, count in (("image", 1), ("video", base.spec.clip.num_frames)):
        steps: list[tuple[int, int]] = []
        model = open_model(base, media)  # type: ignore[arg-type]
        generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
        frames[media] = model.sample(
            _sampling(base, count),
            embeds[:1].repeat(2, 1, 1),
            embeds[1:].repeat(2, 1, 1),
            generators,
            lambda step, total, steps=steps: steps.append((step, total)),
        )
        assert frames[media].shape == (2, count, SIDE, SIDE, 3)
        assert steps == [(1, 2), (2, 2)]
        assert frames[media].min() >= 0
        assert frames[media].max() <= 1
        assert np.abs(frames[media][0] - frames[media][1]).max() > 0.01


def test_a_sample_does_not_depend_on_its_neighbours(base: Base) -> None:
    model, embeds = open_model(base, "image"), _embeds(base)
    sampling = _sampling(base, 1)

    def made(*seeds: int) -> Any:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        each = (embeds[:1].repeat(len(seeds), 1, 1), embeds[1:].repeat(len(seeds), 1, 1))
        return model.sample(sampling, *each, generators)

    np.testing.assert_allclose(made(1, 2)[1], made(2)[0], atol=2e-3)


def test_latents_are_what_the_pipeline_decodes(name: str, base: Base) -> None:
    model = open_model(base, "image")
    vae, config = model.parts.vae, model.parts.vae.config
    picture = torch.rand(1, 3, *model.picture_size, generator=torch.Generator().manual_seed(3))
    picture = 2 * picture - 1
    is_still = base.pipeline().denoiser == "unet"
    with torch.no_grad():
        encoded = vae.encode(picture if is_still else picture[:, :, None]).latent_dist
    raw = encoded.sample(generator=torch.Generator().manual_seed(1))
    found = _latents(model)
    match name:
        case "WanPipeline":
            decoded = found * torch.tensor(config.latents_std).view(1, -1, 1, 1, 1)
            decoded = decoded + torch.tensor(config.latents_mean).view(1, -1, 1, 1, 1)
        case "LTXPipeline":
            decoded = model.pipeline._denormalize_latents(
                found, vae.latents_mean, vae.latents_std, config.scaling_factor
            )
        case _:
            decoded = found / config.scaling_factor
    torch.testing.assert_close(decoded[:, :, 0], raw if is_still else raw[:, :, 0])


def test_gradients_reach_the_prompt(base: Base) -> None:
    model = open_model(base, "image")
    latents, embeds = _latents(model), _embeds(base)[:1].requires_grad_(True)
    levels = torch.tensor([model.process.num_levels // 2])
    noisy = model.process.add_noise(latents, torch.ones_like(latents), levels)
    model.predict(noisy, model.process.timesteps(levels), embeds).square().sum().backward()
    assert embeds.grad is not None
    is_read = embeds[0].detach().abs().sum(-1) > 0
    assert (embeds.grad[0].abs().sum(-1) > 0)[is_read].all()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_takes_and_gives_float32(base: Base, precision: str) -> None:
    half = replace(base, spec=base.spec.model_copy(update={"precision": precision}), _loaded={})
    exact, rough = open_model(base, "image"), open_model(half, "image")
    dtypes = {parameter.dtype for parameter in rough.parts.denoiser.parameters()}
    assert getattr(torch, precision) in dtypes
    pairs = [(_latents(exact), _latents(rough))]
    level = torch.tensor([900])
    embeds, (latents, _) = _embeds(base)[:1], pairs[0]
    noisy = exact.process.add_noise(latents, torch.ones_like(latents), level)
    with torch.no_grad():
        predictions = [
            model.predict(noisy, model.process.timesteps(level), embeds) for model in (exact, rough)
        ]
    for wanted, found in (*pairs, tuple(predictions)):
        assert found.dtype == torch.float32
        assert float((found - wanted).norm() / wanted.norm()) < 0.02
    generators = [torch.Generator().manual_seed(2)]
    frames = rough.sample(_sampling(base, 1), embeds, embeds, generators)
    assert np.isfinite(frames).all()


@pytest.mark.parametrize(
    "scheduler",
    [
        FlowMatchEulerDiscreteScheduler(shift=1.0),
        FlowMatchEulerDiscreteScheduler(shift=5.0),
        UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    ],
    ids=["euler", "shifted", "unipc"],
)
def test_flow_matching_has_the_scheduler_s_levels(scheduler: Any) -> None:
    process = flow_matching(scheduler, "its file")
    if isinstance(scheduler, UniPCMultistepScheduler):
        scheduler.set_timesteps(1000)  # Euler has them from the start, and would shift them again
    theirs = scheduler.timesteps.float().flip(0)
    ours = process.timesteps(torch.arange(1000))
    assert float((ours - theirs).abs().max()) <= 3  # UniPC's are one level on, in whole numbers
    latents, noise = torch.randn(2, 4, 1, 2, 2), torch.randn(2, 4, 1, 2, 2)
    levels = torch.tensor([10, 800])
    share = (ours[levels] / 1000).view(-1, 1, 1, 1, 1)
    torch.testing.assert_close(
        process.add_noise(latents, noise, levels), (1 - share) * latents + share * noise
    )
    torch.testing.assert_close(process.target(latents, noise, levels), noise - latents)


def test_a_dynamic_shift_is_that_of_a_picture(pipeline_base_dir: Callable[[str], Path]) -> None:
    base = load_base(pipeline_base_dir("LTXPipeline"))
    dynamic = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    model = open_model(base, "image")
    model.parts.__dict__["scheduler"] = dynamic
    process = model.process
    assert isinstance(process, FlowMatching)
    dynamic.set_timesteps(sigmas=np.linspace(1, 1e-3, 1000), mu=float(np.log(process.shift)))
    ours = process.timesteps(torch.arange(1000)).flip(0)
    torch.testing.assert_close(ours, dynamic.timesteps, atol=1e-1, rtol=1e-3)
    assert process.shift > 1


@pytest.mark.parametrize("shift", [None, -3.0, 0.0, "3"])
def test_a_shift_that_is_no_positive_number_is_refused(shift: object) -> None:
    flow = UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction")
    flow.register_to_config(flow_shift=shift)
    with pytest.raises(BaseFolderError, match=f"has a shift of {shift!r}; give it a number above"):
        flow_matching(flow, "its file")


def test_another_process_than_the_model_s_is_refused() -> None:
    betas, flow = UniPCMultistepScheduler(), FlowMatchEulerDiscreteScheduler()
    with pytest.raises(BaseFolderError, match=r"without use_flow_sigmas, .*trained by flow"):
        flow_matching(betas, "its file")
    with pytest.raises(BaseFolderError, match="has no betas"):
        diffusion_by_betas(flow, "its file")


def _copied(base: Base, folder: Path) -> Path:
    return shutil.copytree(base.folder, folder / "base")


def _with_clip(folder: Path, **clip: Any) -> Base:
    file = folder / "base.yaml"
    content = yaml.safe_load(file.read_text())
    content["clip"] |= clip
    file.write_text(yaml.safe_dump(content))
    return load_base(folder)


@pytest.mark.parametrize(
    ("name", "clip", "words"),
    [
        ("WanPipeline", {"num_frames": 8}, r"num_frames of base.yaml is 8, .* give 5"),
        ("WanPipeline", {"height": 40}, r"clip.height of base.yaml is 40, .* give 32"),
        ("LTXPipeline", {"width": 48}, r"clip.width of base.yaml is 48, .* give 32"),
        ("CogVideoXPipeline", {"num_frames": 5}, r"num_frames of base.yaml is 5, .* give 1"),
    ],
)
def test_a_clip_that_the_pipeline_does_not_make_is_refused(
    base: Base, tmp_path: Path, clip: dict[str, int], words: str
) -> None:
    with pytest.raises(BaseFolderError, match=words):
        require(_with_clip(_copied(base, tmp_path), **clip))


@pytest.mark.parametrize(
    ("name", "option", "words"),
    [
        ("WanPipeline", {"text_dim": 16}, "text_dim: 16, and the text encoder says 32"),
        ("WanPipeline", {"in_channels": 9}, "takes 9 channels and gives 4, and the vae has 4"),
        ("WanPipeline", {"image_dim": 8}, "image_dim: 8, so the denoiser takes an image"),
        ("LTXPipeline", {"caption_channels": 16}, "caption_channels: 16, and the text"),
        ("CogVideoXPipeline", {"text_embed_dim": 16}, "text_embed_dim: 16, and the text"),
        ("CogVideoXPipeline", {"in_channels": 8}, "takes 8 channels and gives 4"),
    ],
)
def test_parts_that_do_not_fit_are_named(
    base: Base, tmp_path: Path, option: dict[str, int], words: str
) -> None:
    folder = _copied(base, tmp_path)
    change_json(folder / "t2v" / "transformer" / "config.json", **option)
    problems = [finding.problem for finding in check(load_base(folder))]
    assert any(words in problem for problem in problems)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"latents_mean": [0.1] * 3}, r"latents_mean: \[0.1, 0.1, 0.1\], .* list of 4 finite"),
        ({"latents_mean": None}, "latents_mean: None"),
        ({"latents_std": [0.8, 0.8, 0.8, 0.0]}, "no list of 4 positive numbers"),
        ({"latents_std": ["a"] * 4}, "no list of 4 positive numbers"),
        ({"patch_size": 2}, "patch_size: 2 and in_channels: 3; a patch"),
        ({"patch_size": 0}, "patch_size: 0 and in_channels: 3; a patch"),
        ({"scale_factor_spatial": 16}, "scale_factor_spatial: 16, .* layers make 8; write that"),
        ({"scale_factor_temporal": 0}, "scale_factor_temporal: 0, .* layers make 4; write that"),
        ({"temperal_downsample": [False]}, "vae .* cannot be loaded"),
    ],
)
def test_an_autoencoder_s_config_must_be_that_of_its_layers(
    wan_dir: Path, tmp_path: Path, option: dict[str, Any], words: str
) -> None:
    folder = _copied(load_base(wan_dir), tmp_path)
    change_json(folder / "t2v" / "vae" / "config.json", **option)
    with pytest.raises(BaseFolderError, match=words):
        require(load_base(folder))


def test_an_autoencoder_of_another_class_is_named(wan_dir: Path, tmp_path: Path) -> None:
    folder = _copied(load_base(wan_dir), tmp_path)
    index = folder / "t2v" / "model_index.json"
    change_json(index, vae=["diffusers", "AutoencoderKLQwenImage"])
    with pytest.raises(BaseFolderError, match="an AutoencoderKLQwenImage, and a WanPipeline"):
        require(load_base(folder))


def test_a_t5_tokenizer_without_padding_is_told_t5_s(wan_dir: Path, tmp_path: Path) -> None:
    folder = _copied(load_base(wan_dir), tmp_path)
    change_json(folder / "t2v" / "tokenizer" / "tokenizer_config.json", pad_token=None)
    with pytest.raises(BaseFolderError, match='"<pad>" to pad as T5 does'):
        require(load_base(folder))


def test_a_timestep_for_each_token_is_refused_by_export_alone(
    wan_dir: Path, tmp_path: Path
) -> None:
    folder = _copied(load_base(wan_dir), tmp_path)
    change_json(folder / "t2v" / "model_index.json", expand_timesteps=True)
    base, usual = load_base(folder), load_base(wan_dir)
    words = "t2v has expand_timesteps: True, with which a WanPipeline cannot be exported and served"
    with pytest.raises(BaseFolderError, match=words):
        base.check_exportable()
    usual.check_exportable()
    require(base)  # unlearning and evaluation ask this
    embeds, frames, said = _embeds(base), [], []
    for model in (open_model(base, "image"), open_model(usual, "image")):
        generators = [torch.Generator().manual_seed(2)]
        frames.append(model.sample(_sampling(base, 1), embeds[:1], embeds[1:], generators))
        with torch.no_grad():
            said.append(model.predict(_latents(model), torch.tensor([500.0]), embeds[:1]))
    np.testing.assert_allclose(*frames, atol=1e-4)
    torch.testing.assert_close(*said, atol=1e-4, rtol=1e-4)


def test_a_boundary_without_the_second_denoiser_is_refused(wan_dir: Path, tmp_path: Path) -> None:
    folder = _copied(load_base(wan_dir), tmp_path)
    change_json(folder / "t2v" / "model_index.json", boundary_ratio=0.875)
    with pytest.raises(BaseFolderError, match=r"boundary_ratio: 0\.875, so a second denoiser"):
        require(load_base(folder))


@pytest.mark.parametrize("name", VIDEO[3:])
def test_what_cannot_be_exported_is_refused_by_name(name: str, base: Base) -> None:
    for load in (base.t2v_denoiser, base.t2v_vae):
        with pytest.raises(BaseFolderError, match=f"is a {name}, which cannot be exported"):
            load()


def test_ids_are_padded_as_long_as_the_pipeline_pads(base: Base) -> None:
    length = base.pipeline().prompts.length or base.tokenizer().model_max_length
    assert prompt_ids(base, PROMPTS).shape == (2, length)
    assert base.prompt_frame().length == length
    alone = encode_ids(base.text_encoder(), prompt_ids(base, PROMPTS[:1]))
    torch.testing.assert_close(alone, _embeds(base)[:1], atol=1e-5, rtol=1e-5)


def test_an_image_model_makes_no_clips(base_dir: Path, tmp_path: Path) -> None:
    content = yaml.safe_load((base_dir / "base.yaml").read_text())
    content |= {"t2i": str(base_dir / "t2i"), "t2v": str(base_dir / "t2i")}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(content))
    base = load_base(tmp_path)
    assert open_model(base, "image").pipeline_name == "StableDiffusionPipeline"
    with pytest.raises(BaseFolderError, match="is a StableDiffusionPipeline, which makes no clips"):
        open_model(base, "video")
