"""What is special about some exports: AnimateDiff's UNet, and half precision."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from fakes import alive
from motion_fakes import MAX_FRAMES, tiny_adapter, write_motion_base
from unsee.core.errors import NotExportable
from unsee.export.graphs.base_graphs import vae_decoder_graphs, video_denoiser_graph
from unsee.export.graphs.denoiser_graph import VideoDenoiserGraph
from unsee.export.onnx.exporter import export_onnx
from unsee.export.onnx.half import half_copy
from unsee.export.version import export_version, find_export
from unsee.models.base import load_base
from unsee.models.pipelines.motion_unet import motion_unet

TOKENS, WIDTH = 48, 32


@pytest.fixture
def motion_base(tiny_base_dir, tmp_path):
    return load_base(write_motion_base(tiny_base_dir, tmp_path))


@pytest.fixture(scope="module")
def half_vae(tiny_base, tmp_path_factory):
    """The VAE decoder in half precision: its folder and record."""
    folder = tmp_path_factory.mktemp("half")
    graph = vae_decoder_graphs(tiny_base)[0]
    return folder, export_version(graph, tiny_base.t2v_vae(), folder, "float16")


def one_level(unet):
    """A video UNet of a motion adapter and an image UNet like `unet`, neither of which halves."""
    level = {"block_out_channels": (16,), "up_block_types": ("UpBlock2D",)}
    level["down_block_types"] = ("CrossAttnDownBlock2D",)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        small = alive(type(unet).from_config({**unet.config, **level}))
    return motion_unet(small, tiny_adapter(block_out_channels=(16,)))


def run(file, **feeds):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(None, {name: tensor.numpy() for name, tensor in feeds.items()})[0]


@pytest.mark.slow
def test_a_motion_unet_has_the_video_denoisers_signature_and_an_end_of_its_own(
    motion_base, tmp_path
):
    graph, unet = video_denoiser_graph(motion_base), one_level(motion_base.denoiser())
    assert graph.largest_sizes == {"F": MAX_FRAMES}
    graph = VideoDenoiserGraph.of(unet, TOKENS, 1000, 8)
    assert graph.largest_sizes == {"F": MAX_FRAMES}
    file = tmp_path / "model.onnx"
    num_nodes = export_onnx(graph, unet, file)
    assert num_nodes == len(onnx.load(file).graph.node)
    generator = torch.Generator().manual_seed(5)
    for batch, frames, height, width in ((3, MAX_FRAMES, 2, 6), (1, 1, 8, 2), (2, 5, 4, 4)):
        sample = torch.randn(batch, 4, frames, height, width, generator=generator)
        timestep = torch.linspace(1.25, 998.75, batch)
        hidden = torch.randn(batch, TOKENS, WIDTH, generator=generator)
        with torch.no_grad():
            per_frame = hidden.repeat_interleave(frames, dim=0)
            expected = unet(sample, timestep, per_frame).sample.numpy()
        actual = run(file, sample=sample, timestep=timestep, encoder_hidden_states=hidden)
        np.testing.assert_allclose(actual, expected, atol=1e-4 * expected.std())


def test_a_half_unet_is_near_float32_at_any_timestep(tiny_base):
    graph = video_denoiser_graph(tiny_base)
    unet = tiny_base.t2v_denoiser()
    sizes = {"B": 8, "F": 3, "h": 4, "w": 4}
    sample, _, hidden = graph.example_inputs(sizes, seed=1)
    timestep = torch.linspace(0.3, 998.7, 8)
    with torch.no_grad():
        expected = graph.wrap(unet)(sample, timestep, hidden)
        actual = graph.wrap(half_copy(unet))(sample, timestep, hidden)
    assert actual.dtype == torch.float32
    difference = (actual - expected).abs().max()
    assert 0 < difference < graph.tolerances["float16"].limit / 2 * expected.std()


def test_half_precision_keeps_the_borders(half_vae):
    folder, _ = half_vae
    model = onnx.load(folder / "model.onnx")
    types = [t.type.tensor_type.elem_type for t in (*model.graph.input, *model.graph.output)]
    assert types == [onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8]
    weights = {w.data_type for w in model.graph.initializer if np.prod(w.dims) > 8}
    assert weights == {onnx.TensorProto.FLOAT16}


def test_the_record_says_what_was_made_of_what(half_vae, tiny_base):
    folder, record = half_vae
    graph, vae = vae_decoder_graphs(tiny_base)[0], tiny_base.t2v_vae()
    assert (record.schema_version, record.graph, record.precision) == (2, "vae_decoder", "float16")
    assert record.num_parameters == sum(p.numel() for p in vae.parameters())
    assert record.num_nodes == len(onnx.load(folder / "model.onnx").graph.node)
    assert set(record.seconds) == set(record.peak_bytes) == {"export", "parity"}
    assert min(record.peak_bytes.values()) > 2**24
    assert (record.parity.tolerance, record.parity.unit) == (4, "level")
    assert {p.dtype for p in vae.parameters()} == {torch.float32}
    assert find_export(graph, vae, folder, "float16") == record
    assert find_export(graph, vae, folder, "float32") is None


def test_half_keeps_ties_integers_and_the_original():
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Linear(3, 3)
            self.second = torch.nn.Linear(3, 3)
            self.second.weight = self.first.weight
            self.register_buffer("places", torch.arange(3))
            self.register_buffer("scale", torch.ones(3))

    model = Tied()
    half = half_copy(model)
    assert half.first.weight is half.second.weight
    dtypes = [half.first.weight.dtype, half.first.bias.dtype, half.places.dtype, half.scale.dtype]
    assert dtypes == [torch.float16, torch.float16, torch.int64, torch.float16]
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}
    assert isinstance(half.first.weight, torch.nn.Parameter)


def test_a_unet_that_takes_more_than_latents_is_refused(tiny_base):
    unet = tiny_base.t2v_denoiser()
    wider = type(unet).from_config({**unet.config, "in_channels": 9})
    with pytest.raises(NotExportable, match="takes 9 channels and gives 4"):
        VideoDenoiserGraph.of(wider, TOKENS, 1000, 8)
