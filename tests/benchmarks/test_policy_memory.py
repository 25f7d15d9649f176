"""The parts that policies' graphs are cut into; nothing is measured."""

import numpy as np
import onnx
import onnx_ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.policies import graphs as policy_graphs
from benchmarks.policies.sessions import Encoders
from unsee.export.onnx.shared_weights import save_beside

SIZE = 32


def encoder(seed):
    """Two layers; the second one's weights depend on the seed."""
    chance = np.random.default_rng(0)
    weights = {
        "table": chance.standard_normal((50, SIZE)),
        "below": chance.standard_normal((SIZE, SIZE)),
    }
    weights["own"] = np.random.default_rng(seed).standard_normal((SIZE, SIZE))
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["looked_up"]),
        helper.make_node("MatMul", ["looked_up", "below"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "own"], ["moved"]),
        helper.make_node("Add", ["hidden", "moved"], ["last_hidden_state"]),
    ]
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["B", 6])],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["B", 6, SIZE])],
        [numpy_helper.from_array(v.astype(np.float32), name) for name, v in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.fixture
def graphs(monkeypatch, tmp_path):

    def export(model, tokens, seed, file):
        if seed is None:
            save_beside(onnx_ir.from_proto(encoder(9)), file)
        else:
            onnx.save(encoder(seed), file)

    monkeypatch.setattr(policy_graphs, "_export", export)
    return policy_graphs.write_graphs(None, 6, 3, tmp_path)


def test_every_way_gives_the_embeddings_of_the_whole_graph(graphs):
    ids = {"input_ids": np.arange(12).reshape(2, 6)}

    def opened(files, *, prepack=True, frozen=None):
        made = Encoders(prepack, frozen or {})
        for file in files:
            assert made.open(file) > 0
        return made

    whole = opened(graphs.whole)
    wanted = [whole.outputs(i, ids)["last_hidden_state"] for i in range(3)]
    assert not np.array_equal(wanted[0], wanted[1])
    assert not np.array_equal(wanted[1], wanted[2])
    linked = opened(graphs.linked, prepack=False)
    shared = opened(graphs.linked, prepack=False, frozen=graphs.frozen)
    between = opened([graphs.trunk]).outputs(0, ids)
    heads = opened(graphs.heads)
    for i in range(3):
        for found in (linked.outputs(i, ids), shared.outputs(i, ids), heads.outputs(i, between)):
            np.testing.assert_allclose(found["last_hidden_state"], wanted[i], rtol=1e-4, atol=1e-4)


def test_only_the_policys_own_tensors_are_written_for_each(graphs):
    assert graphs.own_bytes == 4 * SIZE * SIZE
    assert graphs.all_bytes == graphs.own_bytes + 4 * SIZE * SIZE + 4 * 50 * SIZE
    weights = [file.with_name("model.onnx.data") for file in graphs.linked]
    assert len({file.stat().st_ino for file in weights}) == 1
    sizes = [file.stat().st_size for file in graphs.linked]
    assert all(graphs.own_bytes <= size < graphs.own_bytes + 2000 for size in sizes)
