"""Exported graphs against PyTorch: at sizes never traced, byte for byte again, and when broken."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from unsee.core.errors import NotExportable, ParityError
from unsee.deltas.edit import trunk
from unsee.export.graphs.base_graphs import text_encoder_graph
from unsee.export.graphs.decoder_graphs import VAEDecoderGraph
from unsee.export.graphs.denoiser_graph import VideoDenoiserGraph
from unsee.export.graphs.graphs import Tolerance
from unsee.export.graphs.prompt_graphs import TextEncoderGraph
from unsee.export.onnx.exporter import OPSET, export_onnx
from unsee.export.onnx.parity import check_parity, compare


@pytest.fixture
def graph(tiny_base):
    return text_encoder_graph(tiny_base)


@pytest.fixture
def text_encoder(tiny_base):
    return trunk(tiny_base.text_encoder())


def run(file, **feeds):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def test_every_graph_is_within_its_tolerance_at_three_sizes(exported):
    for outcome in exported.record.graphs:
        report = outcome.export.parity
        assert len(report.sizes) == 3
        assert report.difference <= report.tolerance


def test_video_denoiser_runs_at_sizes_it_was_never_traced_or_checked_at(exported):
    unet = exported.base.t2v_denoiser()
    generator = torch.Generator().manual_seed(1)
    for batch, frames, height, width in ((3, 2, 8, 10), (1, 7, 2, 6), (2, 8, 8, 8)):
        sample = torch.randn(batch, 4, frames, height, width, generator=generator)
        timestep = torch.linspace(1, 998, batch)
        hidden = torch.randn(batch, 48, 32, generator=generator)
        with torch.no_grad():
            expected = unet(sample, timestep, hidden).sample.numpy()
        actual = run(
            exported.repository_dir / "video_denoiser" / "1" / "model.onnx",
            sample=sample.numpy(),
            timestep=timestep.numpy(),
            encoder_hidden_states=hidden.numpy(),
        )
        np.testing.assert_allclose(actual, expected, atol=1e-4 * expected.std())


def test_frames_are_diffusers_images(exported):
    vae = exported.base.t2v_vae()
    latents = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        images = vae.decode(latents[0].transpose(0, 1) / vae.config.scaling_factor).sample
    expected = (images.clamp(-1, 1) + 1) * 127.5
    file = exported.repository_dir / "vae_decoder" / "1" / "model.onnx"
    frames = run(file, latents=latents.numpy())
    assert frames.dtype == np.uint8
    assert frames.shape == (1, 3, 64, 64, 3)
    difference = frames[0] - expected.permute(0, 2, 3, 1).numpy()
    assert np.abs(difference).max() <= 0.51


def test_the_same_weights_give_the_same_bytes_without_traces_of_the_machine(
    exported, graph, text_encoder, tmp_path
):
    file = tmp_path / "model.onnx"
    export_onnx(graph, text_encoder, file)
    first = exported.repository_dir / "text_encoder" / "1" / "model.onnx"
    assert file.read_bytes() == first.read_bytes()
    assert b".py" not in file.read_bytes()


def test_graphs_need_no_operators_but_those_of_onnx(exported):
    for outcome in exported.record.graphs:
        file = exported.repository_dir / outcome.model / "1" / "model.onnx"
        model = onnx.load(file)
        assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
        assert not model.functions


def test_other_weights_than_the_exported_ones_break_parity(exported, graph, text_encoder):
    file = exported.repository_dir / "text_encoder" / "1" / "model.onnx"
    other = trunk(type(text_encoder)(text_encoder.config).eval())
    with pytest.raises(ParityError, match=r"text_encoder differs from PyTorch by .* at B = 2"):
        check_parity(graph, other, file)


class Shifted(torch.nn.Module):
    def __init__(self, wrapped, shift):
        super().__init__()
        self.wrapped, self.shift = wrapped, shift

    def forward(self, *inputs):
        return self.wrapped(*inputs) + self.shift


@dataclass(frozen=True)
class BrokenVAEDecoderGraph(VAEDecoderGraph):
    """Its PyTorch side is two levels brighter than what was exported."""

    def wrap(self, model):
        return Shifted(super().wrap(model), 2)


def test_two_levels_of_brightness_break_parity(exported, tiny_base):
    vae = tiny_base.t2v_vae()
    good = VAEDecoderGraph.of(vae)
    file = exported.repository_dir / "vae_decoder" / "1" / "model.onnx"
    with pytest.raises(ParityError, match="vae_decoder differs"):
        check_parity(BrokenVAEDecoderGraph(good.channels, good.scale), vae, file)


@dataclass(frozen=True)
class StaticTextEncoderGraph(TextEncoderGraph):
    """Its output lost a row on the way: shapes no longer agree."""

    def wrap(self, model):
        class Short(torch.nn.Module):
            def forward(self, input_ids, attention_mask):
                return model(input_ids, attention_mask).last_hidden_state[:, 1:]

        return Short()


def test_a_wrong_shape_and_an_unreadable_file_break_parity(exported, graph, text_encoder, tmp_path):
    short = StaticTextEncoderGraph(**vars(graph))
    file = exported.repository_dir / "text_encoder" / "1" / "model.onnx"
    with pytest.raises(ParityError, match=r"\[2, 48, 32\] where PyTorch gives"):
        check_parity(short, text_encoder, file)
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(ParityError, match="cannot open the exported text_encoder"):
        check_parity(graph, text_encoder, broken)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda frames: frames ^ 3 if frames.shape[1] == 2 else frames,
            "by 3 level at B = 1, F = 2",
        ),
        (lambda frames: frames[..., :2], r"\[1, 1, 16, 16, 2\] where PyTorch"),
        (lambda frames: frames.float(), r"gives torch\.float32 .* torch\.uint8"),
        (lambda frames: 1 / 0, r"cannot be run at B = 1, F = 1, h = 2, w = 2: division by zero"),
    ],
)
def test_an_engine_that_is_wrong_at_one_size_is_refused(tiny_base, change, words):
    vae = tiny_base.t2v_vae()
    graph = VAEDecoderGraph.of(vae)
    exact = graph.wrap(vae)
    sizes = [{"B": 1, "F": frames, "h": 2, "w": 2} for frames in (1, 2)]

    def check(change):
        def run(*inputs):
            with torch.no_grad():
                return change(exact(*inputs))

        return compare("the engine of vae_decoder", graph, vae, run, sizes, "float32")

    report = check(lambda frames: frames)
    assert [size.sizes["F"] for size in report.sizes] == [1, 2]
    assert (report.difference, report.unit) == (0.0, "level")
    with pytest.raises(ParityError, match=f"engine of vae_decoder .*{words}"):
        check(change)


def test_an_unknown_video_denoiser_is_refused_by_name(tiny_base):
    with pytest.raises(NotExportable, match="UNet2DConditionModel"):
        VideoDenoiserGraph.of(tiny_base.denoiser(), 48, 1000, 8)


class Cancelling(torch.nn.Module):
    """The identity, by a sum whose parts cancel: float32 keeps few digits of it."""

    def forward(self, given):
        return (given + 1e4) - 1e4


def cancelling_graph():
    tolerances = {"float32": Tolerance(1e-4, "std")}
    return SimpleNamespace(
        tolerances=tolerances,
        outputs=("output",),
        wrap=lambda model: model,
        example_inputs=lambda sizes, seed: (torch.linspace(-1, 1, sizes["B"]),),
    )


def test_a_graph_may_round_as_pytorch_does_and_no_more():
    graph, sizes = cancelling_graph(), [{"B": 3001}]
    report = compare("it", graph, Cancelling(), torch.clone, sizes, "float32")
    (size,) = report.sizes
    assert report.tolerance < report.difference <= 2 * size.rounding
    with pytest.raises(ParityError, match=r"it differs from PyTorch by 0\.0.* is allowed"):
        compare("it", graph, Cancelling(), lambda x: x + 0.01, sizes, "float32")
    exact = compare("it", graph, torch.nn.Identity(), torch.clone, sizes, "float32")
    assert exact.sizes[0].rounding is None
    with pytest.raises(ParityError):
        compare("it", graph, torch.nn.Identity(), lambda x: x + 0.01, sizes, "float32")
