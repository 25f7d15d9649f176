"""What TensorRT's parser would refuse is found by name, and what can be said otherwise is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from unsee.core.errors import EngineBuildFailed, InputError
from unsee.export.graphs.decoder_graphs import VAEDecoderGraph
from unsee.export.graphs.sizes import Profile
from unsee.export.tensorrt.audit import audit, audit_model, load_graph, operator_table
from unsee.export.tensorrt.build import build_engine
from unsee.export.tensorrt.prepare import prepare

FLOAT, UINT8 = TensorProto.FLOAT, TensorProto.UINT8
OTHER = "elsewhere"


def model_of(*nodes, x=(FLOAT, [2, 3, 4, 5]), y=(FLOAT, None), weights=(), opset=20, domain=None):
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info("x", *x)],
        [helper.make_tensor_value_info("y", *y)],
        list(weights),
    )
    imports = [helper.make_opsetid("", opset)]
    imports += [helper.make_opsetid(domain, 1)] if domain else []
    return helper.make_model(graph, opset_imports=imports)


def node(operator, inputs="x", outputs="y", **attributes):
    return helper.make_node(
        operator, inputs.split(), outputs.split(), name=f"the_{operator}", **attributes
    )


def reasons(model):
    return [str(problem) for problem in audit_model(model)]


def prepared(model):
    """A copy of the model, rewritten for TensorRT."""
    copied = onnx.ModelProto.FromString(model.SerializeToString())
    prepare(copied)
    return copied


@pytest.fixture
def exported_files(exported):
    """The UNet and the VAE decoder of a tiny base as ONNX files."""
    names = ("video_denoiser", "vae_decoder")
    return {name: exported.repository_dir / name / "1" / "model.onnx" for name in names}


@pytest.mark.torch
def test_the_exported_unet_is_taken_as_it_is(exported_files):
    file = exported_files["video_denoiser"]
    assert audit(file) == ()
    assert prepared(load_graph(file)) == load_graph(file)


@pytest.mark.torch
def test_the_exported_decoder_is_taken_once_its_cast_comes_last(exported_files):
    model = load_graph(exported_files["vae_decoder"])
    refused = {problem.operator for problem in audit_model(model)}
    assert refused == {"Cast", "Transpose", "Reshape"}
    prepare(model)
    assert audit_model(model) == ()
    onnx.checker.check_model(model, full_check=True)
    latents = np.random.default_rng(0).standard_normal((1, 4, 2, 4, 6)).astype(np.float32)
    frames = [
        onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"]).run(
            None, {"latents": latents}
        )[0]
        for source in (exported_files["vae_decoder"].read_bytes(), model.SerializeToString())
    ]
    assert frames[0].std() > 0
    assert np.array_equal(*frames)


def test_uint8_at_the_border_alone_is_taken():
    assert not reasons(model_of(node("Cast", to=UINT8), y=(UINT8, None)))
    assert not reasons(model_of(node("Cast", to=FLOAT), x=(UINT8, [2, 3])))
    moved = model_of(node("Transpose"), x=(UINT8, [2, 3]), y=(UINT8, None))
    assert reasons(moved) == [
        "Transpose the_Transpose: x is of UINT8; the operator takes FP32, FP16, BF16, INT32, "
        "INT64, BOOL"
    ]


def test_a_cast_stays_where_its_result_is_used_twice():
    model = model_of(
        node("Cast", outputs="c", to=UINT8),
        node("Transpose", "c", "t"),
        node("Shape", "c", "s"),
        node("Reshape", "t s", "y"),
        y=(UINT8, None),
    )
    assert prepared(model) == model
    assert any("UINT8 inside the graph" in reason for reason in reasons(model))


def attention(q_dims=(1, 2, 3, 8), **attributes):
    return model_of(node("Attention", "x x x", **attributes), x=(FLOAT, list(q_dims)), opset=23)


def test_attributes_of_attention_that_say_nothing_are_dropped_and_others_are_named():
    silent = attention(softcap=0.0, qk_matmul_output_mode=0, scale=0.5)
    assert len(reasons(silent)) == 2
    prepare(silent)
    assert not reasons(silent)
    assert [a.name for a in silent.graph.node[0].attribute] == ["scale"]
    telling = attention(softcap=3.0)
    assert prepared(telling) == telling
    assert reasons(telling) == [
        "Attention the_Attention: the attribute softcap is not taken, whatever its value"
    ]


def test_attention_wants_four_dims():
    three = attention((1, 3, 16), q_num_heads=2, kv_num_heads=2)
    assert any("has the rank 3, and 4 is needed" in reason for reason in reasons(three))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (model_of(node("Det"), x=(FLOAT, [3, 3])), "no such operator"),
        (model_of(node("Relu", domain=OTHER), domain=OTHER), "of the domain elsewhere, not"),
        (model_of(node("Sqrt"), x=(TensorProto.DOUBLE, [2]), y=(11, None)), "x is of FP64"),
        (model_of(node("Sqrt"), opset=25), "opset 25 is not among 9 to 24"),
        (
            model_of(node("Resize", mode="cubic")),
            "mode = cubic; taken are nearest, linear",
        ),
        (model_of(node("MaxPool", kernel_shape=[1, 1])), "restrictions that this audit does not"),
        (
            model_of(node("Shape", outputs="s"), node("Squeeze", "x s")),
            "its axes (s) are not a constant",
        ),
        (
            model_of(
                node("LayerNormalization", "x g", "y mean"),
                weights=[helper.make_tensor("g", FLOAT, [5], [1.0] * 5)],
            ),
            "only its first output is taken",
        ),
    ],
)
def test_what_is_refused_is_named_with_the_reason(model, reason):
    assert any(reason in found for found in reasons(model)), reasons(model)


def test_what_the_audit_refuses_is_refused_by_the_build_before_tensorrt_is_needed(tmp_path):
    file = tmp_path / "model.onnx"
    onnx.save(model_of(node("Det"), x=(FLOAT, [3, 3])), file)
    sizes = [{"B": batch, "F": 1, "h": 2, "w": 2} for batch in (1, 1, 4)]
    with pytest.raises(EngineBuildFailed, match=r"refuses vae_decoder: .*no such operator"):
        build_engine(VAEDecoderGraph(channels=3, scale=1), file, Profile(*sizes))


def test_a_file_that_is_no_model_is_refused_in_one_sentence(tmp_path):
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"not a model")
    for file in (broken, Path("nowhere.onnx")):
        with pytest.raises(InputError, match=r"cannot be read as an ONNX model"):
            audit(file)


def test_the_table_is_whole():
    table = operator_table()
    assert set(table.operators.values()) == set(table.types)
    assert set(table.restrictions_not_checked) <= set(table.operators)
    assert all(onnx.defs.has(operator) for operator in table.operators if operator not in OLD)


OLD = {"ImageScaler", "ParametricSoftplus", "ScaledTanh"}
"""Of opsets before 1 that the parser still takes."""
