"""Engines: which there are, which a machine can run, and the sentence when it cannot."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_fakes import machine
from unsee.core.errors import NotExportable
from unsee.export.engines import engine as engines
from unsee.export.engines.engine import (
    ALL_ENGINES,
    Engine,
    EngineName,
    Precision,
    candidates,
    graph_precision,
    obstacle,
    shapes_kept,
)
from unsee.export.engines.machine import this_machine


def names(found):
    return [str(engine) for engine in found]


@pytest.mark.parametrize("engine", ALL_ENGINES, ids=str)
def test_an_engine_is_found_again_by_its_name(engine):
    assert Engine.of(str(engine)) == engine


def test_an_unknown_engine_is_refused_with_those_that_there_are():
    with pytest.raises(NotExportable, match="no engine 'openvino-int8'; there are onnxruntime-f"):
        Engine.of("openvino-int8")


def test_the_simpler_engines_come_first():
    everything = ["onnxruntime-float32", "openvino-float32", "openvino-bfloat16"]
    assert names(candidates("auto", "auto", machine())) == everything
    assert names(candidates("auto", "auto", machine(("FP32",)))) == everything[:2]
    assert names(candidates("auto", "auto", machine(openvino=False))) == everything[:1]
    assert names(candidates("auto", "float32", machine())) == everything[:2]
    assert names(candidates("openvino", "auto", machine())) == everything[1:]
    assert names(candidates("openvino", "bfloat16", machine())) == everything[2:]


@pytest.mark.parametrize(
    ("name", "precision", "here", "sentence"),
    [
        ("onnxruntime", "bfloat16", machine(), "onnxruntime computes in float32, not in bfloat16"),
        ("openvino", "float16", machine(), "openvino computes in float32 or bfloat16, not in"),
        ("openvino", "auto", machine(openvino=False), r'pip install "unsee\[export\]"'),
        ("openvino", "bfloat16", machine(("FP32",)), "bfloat16 units, which Some CPU has not"),
        ("tensorrt", "auto", machine(), "needs an NVIDIA GPU and the package tensorrt"),
        ("auto", "float16", machine(), "no engine of this machine computes in float16"),
    ],
)
def test_what_cannot_be_met_is_refused_in_one_sentence(name, precision, here, sentence):
    with pytest.raises(NotExportable, match=sentence) as caught:
        candidates(name, precision, here)
    assert "\n" not in str(caught.value)


@given(
    st.sampled_from(["auto", *get_args(EngineName)]),
    st.sampled_from(["auto", *get_args(Precision)]),
    st.sets(st.sampled_from(["BF16", "FP32", "FP16"])),
    st.booleans(),
)
def test_candidates_are_what_was_asked_for_and_can_be_run(name, precision, capabilities, openvino):
    here = machine(tuple(capabilities), openvino)
    try:
        found = candidates(name, precision, here)
    except NotExportable:
        return
    assert found
    for engine in found:
        assert name in ("auto", engine.name)
        assert precision in ("auto", engine.precision)
        assert obstacle(engine, here) is None


def test_of_tensorrt_only_the_fastest_is_a_candidate(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: object())
    on_gpu = machine(nvidia=True)
    assert names(candidates("tensorrt", "auto", on_gpu)) == ["tensorrt-float16"]
    assert names(candidates("tensorrt", "float32", on_gpu)) == ["tensorrt-float32"]
    assert "tensorrt" not in " ".join(names(candidates("auto", "auto", on_gpu)))


def test_only_tensorrt_wants_graphs_in_half_precision():
    assert graph_precision((Engine("tensorrt", "float16"),)) == "float16"
    for engine in ALL_ENGINES[:-1]:
        assert graph_precision((engine,)) == "float32"


def test_parameters_are_those_of_the_c_plus_plus_backend():
    assert Engine("onnxruntime").parameters(4) == {}
    assert Engine("openvino").parameters() == {"NUM_STREAMS": "1", "PERFORMANCE_HINT": "LATENCY"}
    parameters = Engine("openvino", "bfloat16").parameters(4)
    assert parameters["HINT_BF16"] == "YES"
    assert parameters["STATIC_SHAPES"] == "4"


def test_large_graphs_keep_fewer_shapes():
    assert shapes_kept(10**7) > shapes_kept(6 * 10**9) >= 1


def test_this_machine_knows_itself():
    here = this_machine()
    assert here.threads >= 1
    assert here.cpu
    assert here.versions["onnxruntime"]
    assert ("FP32" in here.capabilities) == ("openvino" in here.versions)
