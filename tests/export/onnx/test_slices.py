"""What is cut into slices, and into quicker transposes, computes what PyTorch computes."""

import collections

import onnx_ir as ir
import onnxruntime
import pytest
import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from unsee.export.graphs.base_graphs import video_unet_graph
from unsee.export.onnx import rewrites, slices, transposes
from unsee.export.onnx.exporter import export_onnx
from unsee.export.onnx.lowerings import TRANSLATIONS
from unsee.export.onnx.parity import check_parity

CHANNELS, TOKENS = 8, 1e4
MULTIPLE = 4
"""Of the tiny transformer's height and width, of which 16 pixels are always a multiple."""


class Permute(nn.Module):
    def __init__(self, perm):
        super().__init__()
        self.perm = perm

    def forward(self, x):
        return x.permute(self.perm).sin()


class Temporal(nn.Module):
    """Images [B, F, C, H, W] through a temporal transformer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.transformer = TransformerTemporalModel(2, 4, CHANNELS, norm_num_groups=2).eval()

    def forward(self, clips):
        images = clips.flatten(0, 1)
        return self.transformer(images, num_frames=clips.shape[1]).sample


def exported(module, inputs, dynamic):
    with torch.no_grad():
        model = torch.onnx.export(
            module.eval(),
            inputs,
            dynamo=True,
            opset_version=20,
            custom_translation_table=TRANSLATIONS,
            dynamic_shapes=dynamic,
            verbose=False,
        ).model
    rewrites.split_gates(model)
    return model


def run(model, x):
    session = onnxruntime.InferenceSession(
        ir.serde.serialize_model(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


def operators(model):
    return collections.Counter(node.op_type for node in model.graph)


@pytest.fixture
def temporal():
    module = Temporal()
    dims = {name: torch.export.Dim(name, min=1, max=64) for name in "BFhw"}
    sizes = {0: dims["B"], 1: dims["F"], 3: MULTIPLE * dims["h"], 4: MULTIPLE * dims["w"]}
    example = torch.randn(2, 3, CHANNELS, 2 * MULTIPLE, 3 * MULTIPLE)
    return module, exported(module, (example,), (sizes,))


@pytest.mark.parametrize("most", [2, 16])
def test_a_temporal_transformer_is_cut_and_computes_the_same_at_any_size(
    temporal, most, monkeypatch
):
    monkeypatch.setattr(slices, "MOST_SLICES", most)
    monkeypatch.setattr(slices, "SLICE_ELEMENTS", 1)
    module, model = temporal
    before = operators(model)["Softmax"]
    assert slices.slice_pixels(model, TOKENS) == 1
    assert transposes.split_transposes(model) >= 2
    assert operators(model)["Softmax"] == most * before
    for shape in ((2, 3, CHANNELS, 8, 12), (1, 1, CHANNELS, 4, 4), (3, 5, CHANNELS, 4, 16)):
        x = torch.randn(shape)
        with torch.no_grad():
            expected = module(x)
        torch.testing.assert_close(run(model, x), expected, atol=1e-5, rtol=1e-5)


def test_what_fits_the_cache_stays_whole(temporal):
    _, model = temporal
    before = operators(model)
    assert slices.slice_pixels(model, tokens=1.0) == 0
    assert operators(model) == before


def test_sequences_that_know_of_each_other_are_not_cut(monkeypatch):
    class Mixed(nn.Module):
        def forward(self, x):
            batch, channels, frames, height, width = x.shape
            sequences = x.permute(0, 3, 4, 2, 1).reshape(-1, frames, channels)
            mixed = sequences.cumsum(0).reshape(batch, height, width, frames, channels)
            return mixed.permute(0, 3, 4, 1, 2)

    monkeypatch.setattr(slices, "SLICE_ELEMENTS", 1)
    x = torch.randn(2, CHANNELS, 3, 4, 4)
    model = exported(Mixed(), (x,), None)
    assert slices.slice_pixels(model, TOKENS) == 0


@given(elements=st.floats(0, 1e12), factor=st.integers(1, 4096))
def test_slices_divide_what_there_is_and_are_no_more_than_needed(elements, factor):
    count = slices.num_slices(elements, factor)
    assert factor % count == 0
    assert 1 <= count <= slices.MOST_SLICES
    assert count == 1 or elements > count / 2 * slices.SLICE_ELEMENTS


@settings(max_examples=6, deadline=None)
@given(
    perm=st.sampled_from(
        [transposes.CHANNELS_LAST, transposes.INTO_PIXELS, transposes.OUT_OF_PIXELS]
    ),
    sizes=st.lists(st.integers(1, 5), min_size=5, max_size=5),
)
def test_split_transposes_move_the_same_numbers_to_the_same_places(perm, sizes):
    x = torch.randn(*sizes[: len(perm)])
    model = exported(Permute(perm), (x,), None)
    assert transposes.split_transposes(model) == 1
    kept = {transposes.permutation(node) for node in model.graph}
    assert perm not in kept
    torch.testing.assert_close(run(model, x), x.permute(perm).sin())


def test_other_transposes_stay():
    model = exported(Permute((0, 2, 1, 3)), (torch.randn(2, 3, 4, 5),), None)
    assert transposes.split_transposes(model) == 0


@pytest.mark.slow
def test_the_export_cuts_what_outgrows_the_cache(tiny_base, tmp_path, monkeypatch):
    monkeypatch.setattr(slices, "SLICE_ELEMENTS", 2**10)
    graph, unet = video_unet_graph(tiny_base), tiny_base.t2v_unet()
    blocks = [m for m in unet.modules() if isinstance(m, BasicTransformerBlock)]
    export_onnx(graph, unet, tmp_path / "model.onnx")
    assert operators(ir.load(tmp_path / "model.onnx"))["Softmax"] > 2 * len(blocks)
    check_parity(graph, unet, tmp_path / "model.onnx")
