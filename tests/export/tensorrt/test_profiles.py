"""Optimisation profiles: the shapes of every input follow from the sizes of the graph's axes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unsee.core.errors import ProfileError
from unsee.export.graphs.decoder_graphs import VAEDecoderGraph
from unsee.export.graphs.denoiser_graph import VideoDenoiserGraph
from unsee.export.graphs.sizes import Profile
from unsee.export.tensorrt.profiles import input_ranges

UNET = VideoDenoiserGraph(4, 48, 32, 2, 1000, vae_scale=8)
VAE = VAEDecoderGraph(4, 8)


@st.composite
def profiles(draw, graph):
    """Any profile that `graph` has."""
    sizes = {"B": (1, draw(st.integers(1, graph.max_batch_size)), graph.max_batch_size)}
    for axis in ("F", "h", "w"):
        steps = sorted(draw(st.lists(st.integers(1, 64), min_size=3, max_size=3)))
        sizes[axis] = tuple(step * graph.multiples.get(axis, 1) for step in steps)
    return Profile(*({axis: three[place] for axis, three in sizes.items()} for place in range(3)))


@pytest.mark.parametrize("graph", [UNET, VAE])
@given(data=st.data())
def test_every_dim_is_the_graphs_own_or_its_axis_size(graph, data):
    profile = data.draw(profiles(graph))
    ranges = input_ranges(graph, profile)
    assert list(ranges) == [tensor.name for tensor in graph.inputs]
    for tensor in graph.inputs:
        found = ranges[tensor.name]
        dims = zip(tensor.dims, found.minimum, found.optimum, found.maximum, strict=True)
        for dim, least, usual, most in dims:
            assert least <= usual <= most
            if isinstance(dim, int):
                assert least == most == dim
            else:
                sizes = (profile.minimum, profile.optimum, profile.maximum)
                assert (least, usual, most) == tuple(size[dim] for size in sizes)
                assert not most % graph.multiples.get(dim, 1)


GOOD = Profile(
    {"B": 1, "F": 1, "h": 8, "w": 8},
    {"B": 2, "F": 16, "h": 32, "w": 32},
    {"B": 8, "F": 24, "h": 64, "w": 64},
)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"minimum": {"h": 7}}, "h = 7 is no multiple of 2"),
        ({"optimum": {"F": 25}}, r"the sizes of F in video_denoiser are 1, 25 and 24"),
        ({"minimum": {"F": 0}}, r"from 1 up"),
        ({"maximum": {"B": 4}}, r"batches of 1 to 8; its profile has 1 to 4"),
        ({"minimum": {"B": 2}}, r"its profile has 2 to 8"),
        ({"optimum": {"L": 77}}, r"the usual sizes of video_denoiser .* the difference is L"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_by_axis(changed, message):
    profile = replace(
        GOOD, **{word: {**getattr(GOOD, word), **new} for word, new in changed.items()}
    )
    with pytest.raises(ProfileError, match=message):
        input_ranges(UNET, profile)


def test_a_missing_axis_is_named():
    with pytest.raises(ProfileError, match="the difference is F"):
        input_ranges(UNET, replace(GOOD, maximum={"B": 8, "h": 64, "w": 64}))


def test_the_profile_of_a_base_is_one_that_can_be_built(tiny_base):
    vae, unet = tiny_base.t2v_vae(), tiny_base.t2v_denoiser()
    spec, decoder = tiny_base.spec, VAEDecoderGraph.of(vae)
    for graph in (decoder, VideoDenoiserGraph.of(unet, 48, 1000, decoder.scale)):
        ranges = input_ranges(graph, graph.profile(spec.clip, spec.limits))
        first = ranges[graph.inputs[0].name]
        assert first.maximum == (graph.max_batch_size, 4, 8, 8, 8)
