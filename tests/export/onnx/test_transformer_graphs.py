"""A transformer and a causal autoencoder as ONNX graphs: at any size, for every engine."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fakes import LATENT_CHANNELS
from unsee.core.errors import NotExportable
from unsee.export.engines.engine import Engine
from unsee.export.engines.session import open_graph
from unsee.export.graphs.base_graphs import vae_decoder_graphs, video_denoiser_graph
from unsee.export.graphs.denoiser_graph import VideoDenoiserGraph
from unsee.export.graphs.graphs import CARRIED
from unsee.export.graphs.sizes import LatentGrid
from unsee.export.onnx.activations import peak_activations
from unsee.export.tensorrt.audit import audit_model, load_graph
from unsee.export.tensorrt.prepare import prepare
from unsee.export.version import export_version, find_export
from unsee.models.base import load_base
from unsee.models.spec import ClipDefaults, Limits

TOKENS, WIDTH = 512, 32


@pytest.fixture(scope="module")
def base(wan_base_dir):
    return load_base(wan_base_dir)


@pytest.fixture(scope="module")
def graphs(base):
    denoiser, decoders = video_denoiser_graph(base), vae_decoder_graphs(base)
    return {denoiser: base.t2v_denoiser(), **dict.fromkeys(decoders, base.t2v_vae())}


@pytest.fixture(scope="module")
def files(graphs, wan_repository_dir):
    """The ONNX file of each graph, whose parity was checked."""
    found = {}
    for graph, model in graphs.items():
        version_dir = wan_repository_dir / graph.name / "1"
        record = find_export(graph, model, version_dir)
        assert record is not None
        assert record.parity.difference <= record.parity.tolerance
        assert len(record.parity.sizes) == 3
        found[graph.name] = version_dir / "model.onnx"
    return found


def opened(files, graph, sizes, engine, precision="float32"):
    shapes = {t.name: [sizes.get(dim, dim) for dim in t.dims] for t in graph.inputs}
    return open_graph(files[graph.name], Engine(engine, precision), 1, shapes)


UNSEEN = [
    {"B": 3, "F": 2, "h": 6, "w": 8, "L": 20},
    {"B": 1, "F": 7, "h": 2, "w": 10, "L": TOKENS},
    {"B": 2, "F": 5, "h": 8, "w": 2, "L": 3},
]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("sizes", UNSEEN, ids=str)
def test_every_engine_computes_every_graph_at_sizes_never_traced(graphs, files, sizes, engine):
    for graph, model in graphs.items():
        axes = {dim for tensor in graph.inputs for dim in tensor.dims if isinstance(dim, str)}
        run = opened(files, graph, {axis: sizes[axis] for axis in axes}, engine)
        inputs = graph.example_inputs(sizes, seed=4)
        with torch.no_grad():
            expected = graph.wrap(model)(*inputs)
        named = zip(graph.inputs, inputs, strict=True)
        actual = run(**{spec.name: tensor.numpy() for spec, tensor in named})
        if len(graph.outputs) == 1:
            actual, expected = (actual,), (expected,)
        for spec, got, wanted in zip(graph.outputs, actual, expected, strict=True):
            tolerance = (
                graph.tolerances["float32"] if spec == graph.outputs[0] else CARRIED["float32"]
            )
            unit = 1 if tolerance.unit == "level" else float(wanted.std())
            difference = np.abs(got.astype(np.float64) - wanted.double().numpy())
            assert difference.max() <= tolerance.limit * unit, (graph.name, spec.name)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_denoiser_s_graph_is_diffusers_own_transformer(graphs, files, engine):
    """Of embeddings whose last row is repeated to the length that diffusers pads to."""
    (graph, transformer), *_ = graphs.items()
    sample, timestep, hidden = graph.example_inputs(UNSEEN[0], seed=6)
    padding = hidden[:, -1:].expand(-1, TOKENS - hidden.shape[1], -1)
    with torch.no_grad():
        padded = transformer(sample, timestep, torch.cat([hidden, padding], 1)).sample
        other = transformer(sample, timestep / 2, hidden).sample
        uncounted = transformer(sample, timestep, hidden).sample
    run = opened(files, graph, UNSEEN[0], engine)
    feeds = {"sample": sample, "timestep": timestep, "encoder_hidden_states": hidden}
    actual = torch.from_numpy(run(**{name: tensor.numpy() for name, tensor in feeds.items()}))
    assert (actual - padded).abs().max() <= 1e-4 * padded.std()
    assert (uncounted - padded).abs().max() > 1e-3 * padded.std(), "its padding is read"
    assert (other - uncounted).abs().max() > 1e-3 * padded.std(), "it reads the timestep"


@pytest.mark.parametrize("rows", [1, 2])
def test_bfloat16_counts_the_padding_too(graphs, files, rows):
    """In float32 where the CPU has no such units."""
    graph, *_ = graphs
    sample, timestep, hidden = graph.example_inputs({**UNSEEN[0], "B": rows}, seed=6)
    padding = hidden[:, -1:].expand(-1, TOKENS - hidden.shape[1], -1)
    clips = []
    for context in (hidden, torch.cat([hidden, padding], 1)):
        sizes = {**UNSEEN[0], "B": rows, "L": context.shape[1]}
        run = opened(files, graph, sizes, "openvino", "bfloat16")
        feeds = {"sample": sample, "timestep": timestep, "encoder_hidden_states": context}
        clips.append(run(**{name: tensor.numpy() for name, tensor in feeds.items()}))
    assert np.abs(clips[0] - clips[1]).max() <= 0.05 * clips[1].std()


def test_tensorrt_would_refuse_nothing(files):
    for name, file in files.items():
        model = load_graph(file)
        prepare(model)
        assert audit_model(model) == (), name
        assert {o.domain for o in model.opset_import} == {""}
        assert "ScatterND" not in {n.op_type for n in model.graph.node}, "which is slow everywhere"


def test_half_precision_is_within_its_tolerances(graphs, tmp_path):
    """Of the denoiser; the autoencoder's is in `test_causal_decoder`."""
    (denoiser, transformer), *_ = graphs.items()
    record = export_version(denoiser, transformer, tmp_path, "float16")
    assert 0 < record.parity.difference <= record.parity.tolerance


def test_memory_grows_with_the_frame(graphs, files):
    for graph in graphs:
        small = {**graph.traced_sizes, "B": 1, "h": 4, "w": 4}

        def feeds(sizes, graph=graph):
            tensors = graph.example_inputs(sizes, seed=0)
            return {s.name: t.numpy() for s, t in zip(graph.inputs, tensors, strict=True)}

        near, far = (
            peak_activations(files[graph.name], feeds, small, {**small, "h": side, "w": side})
            for side in (4, 16)
        )
        assert far > 8 * near > 0, graph.name


def clip_of(num_frames, height, width):
    return ClipDefaults.model_construct(num_frames=num_frames, height=height, width=width)


def limits(**changes):
    sizes = {"num_frames": 81, "height": (32, 480), "width": (32, 832)}
    return Limits(**(sizes | changes), num_inference_steps=50, guidance_scale=20.0)


def test_a_clip_fills_the_grid_of_latents():
    graph = VideoDenoiserGraph(16, TOKENS, 4096, 2, 1000, 8, 4, any_length=True)
    clip = clip_of(17, 128, 256)
    assert graph.clip_sizes(clip) == {"B": 2, "F": 5, "h": 16, "w": 32, "L": 32}
    profile = graph.profile(clip, limits())
    assert profile.minimum == {"B": 1, "F": 1, "h": 4, "w": 4, "L": 1}
    assert profile.optimum == graph.clip_sizes(clip)
    assert profile.maximum == {"B": 8, "F": 21, "h": 60, "w": 104, "L": TOKENS}
    with pytest.raises(NotExportable, match="num_frames is 16, which is not one more than a mul"):
        graph.clip_sizes(clip_of(16, 128, 256))
    assert [LatentGrid(8, 2, 4).latent_frames(n) for n in (1, 5, 80, 81)] == [1, 2, 20, 21]


@pytest.mark.parametrize(
    ("axis", "most", "words"),
    [
        ("F", 20, r"81 frames, but .* positions for 77; lower limits\.num_frames"),
        ("w", 100, r"a width of 832 pixels, but .* for 800; lower limits\.width"),
    ],
)
def test_limits_beyond_the_positions_of_the_model_are_refused(axis, most, words):
    graph = VideoDenoiserGraph(16, TOKENS, 4096, 2, 1000, 8, 4, ((axis, most),), any_length=True)
    with pytest.raises(NotExportable, match=words):
        graph.profile(clip_of(17, 128, 256), limits())


def test_a_patch_of_several_latent_frames_is_refused(base):
    transformer = base.t2v_denoiser()
    other = type(transformer).from_config({**transformer.config, "patch_size": (2, 2, 2)})
    with pytest.raises(NotExportable, match="2 latent frames"):
        VideoDenoiserGraph.of(other, TOKENS, 1000, 8)
    assert transformer.config.in_channels == LATENT_CHANNELS
