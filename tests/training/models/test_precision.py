"""A base whose image model is kept in half precision: what is, what is not, and that it works."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from fakes import change_yaml
from unsee.core.errors import BaseFolderError
from unsee.core.policy import Concept
from unsee.core.unlearning_settings import AnchoredMode, PaperMode, Settings
from unsee.images.few_shot import generate_few_shot_images
from unsee.images.latents import encode_images
from unsee.models.base import Base, load_base
from unsee.unlearning.unlearn import unlearn

HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@pytest.fixture(scope="module", params=HALVES)
def half(request: pytest.FixtureRequest, base_dir: Path, tmp_path_factory: object) -> Base:
    assert isinstance(tmp_path_factory, pytest.TempPathFactory)
    folder = tmp_path_factory.mktemp("half")
    shutil.copytree(base_dir, folder, symlinks=True, dirs_exist_ok=True)
    change_yaml(folder / "base.yaml", precision=request.param)
    return load_base(folder)


def test_only_the_image_models_frozen_parts_are_halved(half: Base) -> None:
    dtype = HALVES[half.spec.precision]
    for component in (half.denoiser(), half.vae()):
        assert {parameter.dtype for parameter in component.parameters()} == {dtype}
        assert not any(parameter.requires_grad for parameter in component.parameters())
    for component in (half.text_encoder(), half.t2v_denoiser(), half.t2v_vae()):
        assert {parameter.dtype for parameter in component.parameters()} == {torch.float32}
    half.check_shared_text_encoder()


def test_the_denoiser_takes_and_gives_float32_and_is_nearly_the_same(
    half: Base, base: Base
) -> None:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 4, 8, 8, generator=generator)
    embeds = torch.randn(2, 48, 32, generator=generator).requires_grad_(True)
    timesteps = torch.tensor([10, 900])
    found = half.denoiser()(latents, timesteps, encoder_hidden_states=embeds).sample
    (inner,) = half.denoiser()(latents, timesteps, embeds, return_dict=False)
    wanted = base.denoiser()(latents, timesteps, embeds).sample
    assert found.dtype == inner.dtype == torch.float32
    torch.testing.assert_close(found, inner)
    assert _difference(found, wanted) < 0.03
    (gradient,) = torch.autograd.grad(found.square().sum(), embeds)
    (exact,) = torch.autograd.grad(wanted.square().sum(), embeds)
    assert gradient.dtype == torch.float32
    assert _difference(gradient, exact) < 0.1


def test_pictures_go_in_and_come_out_nearly_the_same(
    half: Base, base: Base, blimbo: Concept, images: list[Image.Image]
) -> None:
    def latents(of: Base) -> torch.Tensor:
        return encode_images(of, images[:2], torch.Generator().manual_seed(0))

    assert latents(half).dtype == torch.float32
    assert _difference(latents(half), latents(base)) < 0.03

    def picture(of: Base) -> torch.Tensor:
        (image,) = generate_few_shot_images(of, blimbo, 1, seed=3, num_inference_steps=3)
        return torch.tensor(list(image.tobytes()), dtype=torch.float32)

    assert (picture(half) - picture(base)).abs().mean() < 4


@pytest.mark.parametrize(
    "settings",
    [
        PaperMode(learning_rate=1e-3, epochs=1),
        AnchoredMode(prompts_to_forget=8, prompts_to_keep=8, attackers=1, attack_steps=1),
    ],
    ids=lambda settings: settings.method,
)
def test_a_concept_is_unlearned_on_it(
    half: Base, blimbo: Concept, images: list[Image.Image], settings: Settings
) -> None:
    tensors = unlearn(half, blimbo, images[:2], settings, 0).tensors
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


def test_an_unknown_precision_is_named(base_dir: Path, tmp_path: Path) -> None:
    shutil.copy(base_dir / "base.yaml", tmp_path / "base.yaml")
    change_yaml(tmp_path / "base.yaml", precision="int8")
    with pytest.raises(BaseFolderError, match=r"precision.*float32") as raised:
        load_base(tmp_path)
    assert "\n" not in str(raised.value)


def _difference(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return ((found - wanted).norm() / wanted.norm()).item()
