"""The sizes at which graphs are used: multiples, limits, and one sentence where they do not fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unsee.core.errors import NotExportable
from unsee.export.graphs.decoder_graphs import VAEDecoderGraph
from unsee.export.graphs.denoiser_graph import VideoDenoiserGraph
from unsee.export.graphs.prompt_graphs import TextEncoderGraph
from unsee.models.spec import ClipDefaults, Limits

UNET = VideoDenoiserGraph(4, 77, 768, 4, 1000, vae_scale=8, most=(("F", 32),))
VAE = VAEDecoderGraph(channels=4, scale=8)
TEXT_ENCODER = TextEncoderGraph(77, 768, 49408)
STEP = 32  # pixels


def clip_of(num_frames, height, width):
    return ClipDefaults.model_construct(num_frames=num_frames, height=height, width=width)


def limits(num_frames, height, width):
    return Limits(
        num_frames=num_frames,
        height=height,
        width=width,
        num_inference_steps=50,
        guidance_scale=20.0,
    )


def test_a_clip_is_one_guided_call_of_each():
    clip = clip_of(16, 256, 320)
    assert TEXT_ENCODER.clip_sizes(clip) == {"B": 2}
    assert UNET.clip_sizes(clip) == {"B": 2, "F": 16, "h": 32, "w": 40}
    assert VAE.clip_sizes(clip) == {"B": 1, "F": 16, "h": 32, "w": 40}


def test_limits_that_are_no_multiples_are_narrowed():
    profile = UNET.profile(clip_of(16, 256, 320), limits(24, (100, 500), (320, 511)))
    assert profile.minimum == {"B": 1, "F": 1, "h": 16, "w": 40}
    assert profile.optimum == {"B": 2, "F": 16, "h": 32, "w": 40}
    assert profile.maximum == {"B": 8, "F": 24, "h": 60, "w": 60}


@st.composite
def clips_and_limits(draw):
    """A clip of multiples and any limits around it."""
    frames = draw(st.integers(1, 32))
    sides, ranges = [], []
    for _ in range(2):
        side = STEP * draw(st.integers(1, 20))
        sides.append(side)
        ranges.append((side - draw(st.integers(0, side - 1)), side + draw(st.integers(0, 300))))
    return clip_of(frames, *sides), limits(draw(st.integers(frames, 32)), *ranges)


@given(clips_and_limits())
def test_a_profile_is_ordered_legal_and_within_the_limits(drawn):
    clip, allowed = drawn
    for graph in (TEXT_ENCODER, UNET, VAE):
        profile = graph.profile(clip, allowed)
        axes = {dim for t in graph.inputs for dim in t.dims if isinstance(dim, str)}
        assert profile.optimum == graph.clip_sizes(clip)
        for sizes in (profile.minimum, profile.optimum, profile.maximum):
            assert set(sizes) == axes
            assert all(sizes[axis] % of == 0 for axis, of in graph.multiples.items())
            assert sizes["B"] <= graph.max_batch_size
        for axis in axes:
            assert profile.minimum[axis] <= profile.optimum[axis] <= profile.maximum[axis]
        for axis, (least, most) in (("h", allowed.height), ("w", allowed.width)):
            if axis in axes:
                assert profile.minimum[axis] * 8 >= least
                assert profile.maximum[axis] * 8 <= most


@pytest.mark.parametrize(
    ("clip", "allowed", "words"),
    [
        (clip_of(16, 250, 256), (16, (64, 512), (64, 512)), "height is 250 pixels.* of 32"),
        (clip_of(16, 256, 72), (16, (64, 512), (64, 512)), "width is 72 pixels.* of 32"),
        (clip_of(20, 256, 256), (16, (64, 512), (64, 512)), "num_frames 20 is outside"),
        (clip_of(16, 64, 256), (16, (80, 512), (64, 512)), "height 64 is outside"),
        (clip_of(16, 256, 256), (33, (64, 512), (64, 512)), "33 frames, .* positions for 32"),
    ],
)
def test_sizes_that_do_not_fit_are_one_sentence(clip, allowed, words):
    with pytest.raises(NotExportable, match=words):
        UNET.profile(clip, limits(*allowed))
