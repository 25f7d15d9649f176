"""The memory of the largest clip: reckoned from small runs, held against a measured one."""

import onnx
import pytest
from onnx import TensorProto, helper

from unsee.export import clip_memory as module
from unsee.export.clip_memory import ClipMemory, memory_of_this_machine
from unsee.export.measured_graphs import feeds_at
from unsee.export.onnx.activations import peak_activations

GB = 10**9


def test_a_clip_that_fits_is_said_with_its_memory():
    memory = ClipMemory(226_000_000, 8 * GB, "32 frames of 64 × 64")
    assert memory.fits
    assert str(memory) == (
        "a clip at the limits (32 frames of 64 × 64) takes about 226 MB while it is made"
    )


def test_limits_that_the_machine_cannot_hold_are_said_with_what_to_do():
    memory = ClipMemory(18 * GB, 16 * GB, "32 frames of 512 × 512")
    assert not memory.fits
    assert "takes about 18.0 GB while it is made and this machine has 16.0 GB" in str(memory)
    assert "lower num_frames, height or width of limits in base.yaml" in str(memory)


def test_a_containers_limit_counts(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(module, "_CGROUP_LIMIT", limit)
    physical = memory_of_this_machine()
    limit.write_text("1000000\n")
    assert memory_of_this_machine() == 1_000_000
    limit.write_text("max\n")
    assert memory_of_this_machine() == physical > 1_000_000


@pytest.fixture
def attention(tmp_path):
    """[F, S, 4] -> scores [F, S, S] -> softmax -> [F, S, 4], where S = h·w."""
    names = ("F", "h", "w", 4)
    nodes = [
        helper.make_node("Reshape", ["x", "rows"], ["q"], "view"),
        helper.make_node("Transpose", ["q"], ["k"], "keys", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "k"], ["scores"], "scores"),
        helper.make_node("Softmax", ["scores"], ["weights"], "softmax"),
        helper.make_node("MatMul", ["weights", "q"], ["y"], "values"),
    ]
    graph = helper.make_graph(
        nodes,
        "attention",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, names)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [helper.make_tensor("rows", TensorProto.INT64, [3], [0, -1, 4])],
    )
    file = tmp_path / "model.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, file)
    return file


def test_scores_grow_with_the_square_of_the_pixels(attention):
    import numpy as np

    def feeds(sizes):
        return {"x": np.zeros([sizes["F"], sizes["h"], sizes["w"], 4], np.float32)}

    small = {"F": 2, "h": 4, "w": 4}
    wanted = {"F": 32, "h": 64, "w": 32}
    pixels = 64 * 32
    scores, rows = 32 * pixels * pixels * 4, 32 * pixels * 4 * 4
    found = peak_activations(attention, feeds, small, wanted)
    assert found == pytest.approx(2 * scores + rows, rel=1e-6)  # scores, softmax and q


@pytest.mark.torch
def test_what_is_reckoned_for_small_sizes_is_what_a_run_of_those_sizes_has(exported):
    from unsee.export.graphs.base_graphs import video_denoiser_graph

    graph = video_denoiser_graph(exported.base)
    file = exported.repository_dir / "video_denoiser" / "1" / "model.onnx"
    side = graph.multiples["h"]
    small = {"B": 2, "F": 2, "h": 2 * side, "w": 2 * side}
    large = {"B": 2, "F": 4, "h": 4 * side, "w": 4 * side}

    def feeds(sizes):
        return feeds_at(graph, sizes)

    reckoned = peak_activations(file, feeds, small, large)
    seen = peak_activations(file, feeds, large, large)
    assert reckoned == pytest.approx(seen, rel=0.02)
    assert reckoned > 4 * peak_activations(file, feeds, small, small)


@pytest.mark.torch
def test_the_export_says_it_and_base_json_keeps_it(exported):
    import json

    record = json.loads(
        (exported.repository_dir / "text_to_video" / "assets" / "base.json").read_bytes()
    )
    assert record["largest_clip_bytes"] == exported.record.clip_memory.num_bytes > 0
