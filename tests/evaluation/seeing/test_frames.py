"""Prompts to frames: padding as the pipelines pad, and nothing made twice."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from unsee.core.errors import InputError
from unsee.deltas.composition import compose
from unsee.deltas.delta import Delta
from unsee.evaluation.seeing.encode import PromptEncoder
from unsee.evaluation.seeing.frame_store import FrameStore
from unsee.evaluation.seeing.generate import FrameMaker, clip_sampling
from unsee.evaluation.seeing.measures import blank_of
from unsee.models.base import Base
from unsee.models.generative import open_model


@pytest.fixture
def encoder(base: Base) -> PromptEncoder:
    return PromptEncoder(base.text_encoder(), base)


@pytest.fixture
def maker(base: Base, tmp_path: Path) -> FrameMaker:
    return FrameMaker(base, FrameStore(tmp_path / "frames"), clip_sampling(base))


def test_embeds_are_those_of_the_pipeline(base: Base, encoder: PromptEncoder) -> None:
    ours = encoder.embeds(["a cat", ""])
    theirs, _ = open_model(base, "image").pipeline.encode_prompt(["a cat", ""], "cpu", 1, False)
    torch.testing.assert_close(ours, theirs)


def test_a_prompt_keeps_its_bits_among_others(encoder: PromptEncoder) -> None:
    several = encoder.embeds(["a", "b", "a"])
    assert torch.equal(several[0], encoder.embeds(["a"])[0])
    assert torch.equal(several[0], several[2])


def test_a_long_prompt_is_refused_not_cut(encoder: PromptEncoder) -> None:
    assert encoder.fits("x" * 46)
    assert not encoder.fits("x" * 47)
    with pytest.raises(InputError, match="takes 49 tokens and the base 'tiny' reads 48"):
        encoder.embeds(["x" * 47])


def test_frames_are_made_once_and_found_again(maker: FrameMaker, encoder: PromptEncoder) -> None:
    finished: list[int] = []
    counting = replace(maker, progress=finished.append)
    embeds, negative = encoder.embeds(["a", "b", "a"]), encoder.embeds([""])
    first = counting.frames("video", embeds, negative, [1, 2, 1])
    assert first.shape == (3, 4, 64, 64, 3)
    assert first.dtype == np.uint8
    assert sum(finished) == 3
    files = list(maker.store.folder.rglob("*.npy"))
    assert len(files) == 2  # equal embeddings and seeds are one clip
    np.testing.assert_array_equal(first[0], first[2])

    maker._kept["video"] = None  # whatever is generated now fails
    maker._kept["digest of video"] = counting.digest("video")
    again = counting.frames("video", embeds, negative, [1, 2, 1])
    np.testing.assert_array_equal(first, again)
    with pytest.raises(AttributeError):
        maker.frames("video", embeds, negative, [1, 2, 3])


def test_a_damaged_file_is_made_again(maker: FrameMaker, encoder: PromptEncoder) -> None:
    embeds, negative = encoder.embeds(["a"]), encoder.embeds([""])
    first = maker.frames("image", embeds, negative, [1])
    assert first.shape == (1, 1, 64, 64, 3)
    (file,) = maker.store.folder.rglob("*.npy")
    whole = file.read_bytes()
    for content in (whole[:-1], b"", b"not an array", whole.replace(b"|u1", b"|i1")):
        file.write_bytes(content)
        np.testing.assert_array_equal(maker.frames("image", embeds, negative, [1]), first)
        assert file.read_bytes() == whole


def test_everything_that_decides_a_clip_is_in_its_address(
    maker: FrameMaker, encoder: PromptEncoder, base: Base, delta: Delta
) -> None:
    a, b, negative = encoder.embeds(["a"]), encoder.embeds(["b"]), encoder.embeds([""])
    tuned = PromptEncoder(compose(base.text_encoder(), [delta]), base).embeds(["a"])
    slower = replace(
        maker, settings=replace(maker.settings, num_inference_steps=2, guidance_scale=2.0)
    )
    made = [
        maker.frames("image", a, negative, [1]),
        maker.frames("image", a, negative, [2]),
        maker.frames("image", b, negative, [1]),
        maker.frames("image", a, b, [1]),
        maker.frames("image", tuned, negative, [1]),
        slower.frames("image", a, negative, [1]),
    ]
    assert len(list(maker.store.folder.rglob("*.npy"))) == len(made)
    assert len({frames.tobytes() for frames in made}) == len(made)
    assert maker.digest("image") != maker.digest("video")


def test_what_else_the_denoiser_is_told_is_in_the_digest(
    maker: FrameMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = maker.digest("video")
    model = type(open_model(maker.base, "video"))
    found = []
    for rate in (8, 24):
        told = {"frame_rate": rate}
        monkeypatch.setattr(model, "conditions", property(lambda self, told=told: told))
        found.append(replace(maker, _kept={}).digest("video"))
    assert len({usual, *found}) == 3


def test_images_are_those_of_the_pipeline(
    maker: FrameMaker, encoder: PromptEncoder, base: Base
) -> None:
    ours = maker.frames("image", encoder.embeds(["a cat"]), encoder.embeds([""]), [7])
    clip = base.spec.clip
    theirs = (
        open_model(base, "image")
        .pipeline(
            "a cat",
            num_inference_steps=clip.num_inference_steps,
            guidance_scale=clip.guidance_scale,
            generator=torch.Generator().manual_seed(7),
        )
        .images[0]
    )
    np.testing.assert_allclose(ours[0, 0].astype(int), np.asarray(theirs).astype(int), atol=1)


def test_a_sample_that_is_not_finite_is_black(maker: FrameMaker, encoder: PromptEncoder) -> None:
    embeds, negative = encoder.embeds(["a", "b"]), encoder.embeds([""])
    embeds[1] = torch.nan
    frames = maker.frames("image", embeds, negative, [1, 2])
    assert blank_of(frames).tolist() == [False, True]
    assert not frames[1].any()
