"""Clips that are decoded latent frame by latent frame are those that diffusers decodes at once."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLWan
from pipeline_fakes import tiny_pipeline

from fakes import LATENT_CHANNELS
from unsee.core.errors import NotExportable
from unsee.export.graphs.decoder_graphs import FirstFrameGraph, NextFramesGraph, decoder_graphs
from unsee.export.onnx.half import half_copy

TINY = {
    "base_dim": 4,
    "z_dim": LATENT_CHANNELS,
    "dim_mult": [1, 1, 2, 2],
    "num_res_blocks": 1,
    "latents_mean": [0.1, -0.2, 0.3, 0.0],
    "latents_std": [0.8, 1.2, 0.7, 1.0],
}
KINDS = {
    "like 2.1": {},
    "more blocks": {"num_res_blocks": 2},
    "like 2.2": {
        "is_residual": True,
        "patch_size": 2,
        "in_channels": 12,
        "out_channels": 12,
        "scale_factor_spatial": 16,
    },
    "twice the frames": {
        "temperal_downsample": [False, False, True],
        "scale_factor_temporal": 2,
    },
}


def autoencoder(**options):
    """A tiny random one whose clips use the whole range of colours."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        vae = AutoencoderKLWan(**{**TINY, **options}).eval()
        for parameter in vae.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=1.3 * parameter[0].numel() ** -0.5)
            else:
                torch.nn.init.normal_(parameter, std=0.3)
    return vae


@torch.no_grad()
def whole(vae, latents):
    """Frames [B, F, H, W, 3] uint8 as `WanPipeline` decodes them."""
    mean, std = (
        torch.tensor(numbers).view(1, -1, 1, 1, 1)
        for numbers in (vae.config.latents_mean, vae.config.latents_std)
    )
    pixels = vae.decode(latents * std + mean).sample
    return ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 4, 1)


@torch.no_grad()
def in_order(vae, latents, forgets=False):
    first, following = (graph.wrap(vae) for graph in decoder_graphs(vae))
    frames, cache = first(latents[:, :, :1])
    parts = [frames]
    for index in range(1, latents.shape[2]):
        cache = torch.zeros_like(cache) if forgets else cache
        frames, cache = following(latents[:, :, index : index + 1], cache)
        parts.append(frames)
    return torch.cat(parts, dim=1)


def levels_apart(frames, others):
    return (frames.int() - others.int()).abs()


@pytest.mark.parametrize("kind", KINDS)
def test_frames_in_order_are_those_of_the_whole_clip(kind):
    vae = autoencoder(**KINDS[kind])
    latents = torch.randn(2, LATENT_CHANNELS, 4, 3, 5, generator=torch.Generator().manual_seed(1))
    expected = whole(vae, latents)
    per_latent, scale = vae.config.scale_factor_temporal, vae.config.scale_factor_spatial
    assert expected.shape == (2, 1 + 3 * per_latent, 3 * scale, 5 * scale, 3)
    assert expected.float().std() > 30, "a clip that shows something"
    actual = in_order(vae, latents)
    apart = levels_apart(actual, expected)
    assert apart.max() <= 1
    assert (apart > 0).float().mean() < 1e-4, "but for numbers next to the half of a level"
    assert levels_apart(in_order(vae, latents, forgets=True), expected).max() > 10


def test_half_precision_moves_no_level_by_more_than_is_allowed():
    """At the second base's width; norms over fewer channels come too near to zero."""
    vae = autoencoder(base_dim=16)
    latents = torch.randn(1, LATENT_CHANNELS, 3, 3, 5, generator=torch.Generator().manual_seed(1))
    half = half_copy(vae)
    first, _ = decoder_graphs(half)
    frames, cache = first.wrap(half)(latents[:, :, :1])
    assert (frames.dtype, cache.dtype) == (torch.uint8, torch.float32)
    apart = levels_apart(in_order(half, latents), whole(vae, latents))
    assert 0 < apart.max() <= first.tolerances["float16"].limit


def test_the_graphs_say_what_the_modules_give():
    vae = autoencoder()
    for graph in decoder_graphs(vae):
        sizes = dict(graph.traced_sizes)
        with torch.no_grad():
            given = graph.wrap(vae)(*graph.example_inputs(sizes, seed=0))
        sizes |= {"H": sizes["h"] * 8, "W": sizes["w"] * 8}
        for spec, tensor in zip(graph.outputs, given, strict=True):
            shape = [sizes[dim] if isinstance(dim, str) else dim for dim in spec.dims]
            assert list(tensor.shape) == shape, (graph.name, spec.name)


def test_the_kind_of_autoencoder_decides(tiny_base):
    assert [graph.name for graph in decoder_graphs(tiny_base.t2v_vae())] == ["vae_decoder"]
    first, following = decoder_graphs(autoencoder())
    assert (type(first), first.name) == (FirstFrameGraph, "vae_decoder")
    assert (type(following), following.name) == (NextFramesGraph, "vae_decoder_next")
    assert (following.scale, following.frames_per_latent) == (8, 4)
    with pytest.raises(NotExportable, match="the autoencoder is an AutoencoderKLLTXVideo; only"):
        decoder_graphs(tiny_pipeline("LTXPipeline", None).vae)
    with pytest.raises(NotExportable, match="the VAE makes 4 channels; frames have 3"):
        decoder_graphs(AutoencoderKLWan(**TINY, in_channels=4, out_channels=4))
