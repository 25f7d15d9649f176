"""AnimateDiff's UNet from its two parts: as diffusers makes it, or a clear sentence."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNetMotionModel

from fakes import change_json, change_yaml
from motion_fakes import tiny_adapter, write_motion_base
from unsee.core.errors import BaseFolderError
from unsee.models.base import load_base
from unsee.models.pipelines.motion_unet import motion_unet


@pytest.fixture
def folder(base_dir: Path, tmp_path: Path) -> Path:
    """A base whose video model is its image model with a motion adapter."""
    return write_motion_base(base_dir, tmp_path)


def test_it_is_what_diffusers_makes(folder: Path) -> None:
    base = load_base(folder)
    made = base.t2v_denoiser()
    assert isinstance(made, UNetMotionModel)
    expected = UNetMotionModel.from_unet2d(base.denoiser(), tiny_adapter()).eval()
    assert made.config == expected.config
    sample, hidden = torch.randn(2, 4, 3, 8, 8), torch.randn(6, 48, 32)
    with torch.no_grad():
        outputs = [unet(sample, torch.tensor([7.0, 900.0]), hidden) for unet in (made, expected)]
    assert torch.equal(outputs[0].sample, outputs[1].sample)
    assert outputs[0].sample.std() > 0


def test_it_is_frozen_and_kept_and_takes_no_second_copy(folder: Path) -> None:
    base = load_base(folder)
    made = base.t2v_denoiser()
    assert made is base.t2v_denoiser()
    assert not made.training
    assert not any(parameter.requires_grad for parameter in made.parameters())
    assert {parameter.dtype for parameter in made.parameters()} == {torch.float32}
    assert made.conv_in.weight.data_ptr() == base.denoiser().conv_in.weight.data_ptr()
    base.check_shared_text_encoder()


def _drop_a_tensor(folder: Path) -> None:
    small = tiny_adapter(use_motion_mid_block=False)
    small.save_pretrained(folder / "adapter")
    change_json(folder / "adapter" / "config.json", use_motion_mid_block=True)


def _pickle(folder: Path) -> None:
    weights = folder / "adapter" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: shutil.rmtree(folder / "adapter"), "no motion adapter: .*adapter is miss"),
        (_pickle, "adapter holds no .*: there are diffusion_pytorch_model.bin; pickled"),
        (_drop_a_tensor, r"adapter lacks 26 tensors of MotionAdapter \(first mid_block"),
        (
            lambda folder: tiny_adapter(motion_layers_per_block=2).save_pretrained(
                folder / "adapter"
            ),
            "adapter does not fit the unet of .*: Incompatible Motion Adapter",
        ),
        (
            lambda folder: tiny_adapter(block_out_channels=(16, 48)).save_pretrained(
                folder / "adapter"
            ),
            "adapter does not fit the unet of .*: their tensors do not fit",
        ),
        (
            lambda folder: tiny_adapter(motion_max_seq_length=7).save_pretrained(
                folder / "adapter"
            ),
            "allows 8 frames, but its motion adapter adapter has positions for 7; lower",
        ),
    ],
)
def test_an_adapter_that_does_not_do_is_one_sentence(
    folder: Path, damage: Callable[[Path], None], words: str
) -> None:
    damage(folder)
    with pytest.raises(BaseFolderError, match=words) as raised:
        load_base(folder).t2v_denoiser()
    assert "\n" not in str(raised.value)


def test_the_video_model_must_be_an_image_model(folder: Path, base_dir: Path) -> None:
    change_yaml(folder / "base.yaml", t2v=str(base_dir / "t2v"))
    with pytest.raises(BaseFolderError, match="UNet2DConditionModel is needed, not a UNet3DCond"):
        load_base(folder).t2v_denoiser()
    with pytest.raises(ValueError, match="MotionAdapter is needed"):
        motion_unet(load_base(base_dir).denoiser(), torch.nn.Linear(1, 1))
