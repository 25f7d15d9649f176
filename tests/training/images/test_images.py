"""Few-shot images: generated with a seed of their own each, or read from a folder."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from unsee.core.errors import InputError
from unsee.core.policy import Concept
from unsee.images.few_shot import generate_few_shot_images
from unsee.images.image_folder import load_images
from unsee.images.latents import encode_images
from unsee.models.base import Base


def test_each_image_depends_on_its_own_seed_only(
    base: Base, blimbo: Concept, capfd: pytest.CaptureFixture[str]
) -> None:
    steps: list[tuple[int, int]] = []
    three = generate_few_shot_images(
        base,
        blimbo,
        3,
        seed=5,
        num_inference_steps=2,
        progress=lambda step, total: steps.append((step, total)),
    )
    two = generate_few_shot_images(base, blimbo, 2, seed=5, num_inference_steps=2)
    other = generate_few_shot_images(base, blimbo, 1, seed=6, num_inference_steps=2)
    assert [image.tobytes() for image in three[:2]] == [image.tobytes() for image in two]
    assert other[0].tobytes() != two[0].tobytes()
    assert {image.size for image in three} == {(64, 64)}
    assert steps == [(step, 6) for step in range(1, 7)]
    assert capfd.readouterr() == ("", "")


def test_a_folder_is_read_in_order_as_rgb(tmp_path: Path) -> None:
    for name, colour in (("b.png", 200), ("a.JPG", 100)):
        Image.new("L", (10, 20), colour).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    images = load_images(tmp_path)
    assert [image.mode for image in images] == ["RGB", "RGB"]
    assert [image.getpixel((0, 0)) for image in images] == [(100,) * 3, (200,) * 3]


def test_no_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no images"):
        load_images(tmp_path)
    with pytest.raises(InputError, match="missing does not exist"):
        load_images(tmp_path / "missing")


@pytest.mark.parametrize("content", [b"", b"no image at all", None])
def test_an_unreadable_image_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "broken.png"
    if content is None:
        Image.effect_noise((50, 50), 9).save(file)
        content = file.read_bytes()[:200]
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.png cannot be read as an image"):
        load_images(tmp_path)


def test_a_file_of_another_format_than_its_name_s_is_not_opened(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", format="JPEG")
    assert len(load_images(tmp_path)) == 1
    Image.new("RGB", (4, 4)).save(tmp_path / "b.png", format="TIFF")
    with pytest.raises(InputError, match=r"b\.png cannot be read as an image"):
        load_images(tmp_path)


def test_latents_are_scaled_and_of_the_models_size(base: Base, images: list[Image.Image]) -> None:
    latents = encode_images(base, images[:2], torch.Generator().manual_seed(0))
    assert latents.shape == (2, 4, 8, 8)
    square = images[0].crop((8, 0, 72, 64))  # the centre of 80x64 at 64x64
    levels = torch.tensor(list(square.tobytes()), dtype=torch.float32).reshape(1, 64, 64, 3)
    with torch.no_grad():
        posterior = base.vae().encode(levels.permute(0, 3, 1, 2) / 127.5 - 1).latent_dist
    draw = posterior.sample(generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(latents[:1], draw * 0.5)
