"""The command for GPU hosts, as far as it runs without one: its CPU parts."""

from __future__ import annotations

import importlib.util

import pytest
from click.testing import CliRunner

from benchmarks.engines import tensorrt as host


def test_without_tensorrt_one_sentence_says_what_to_install_and_the_exit_code_is_2(
    tiny_base_dir, tmp_path
):
    if importlib.util.find_spec("tensorrt"):
        pytest.skip("TensorRT is installed here")
    arguments = ["--base", str(tiny_base_dir), "--output-dir", str(tmp_path / "out")]
    result = CliRunner().invoke(host.tensorrt_host, arguments)
    assert result.exit_code == 2
    assert "pip install tensorrt" in result.output
    assert result.output.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_times_are_compared_with_eager_diffusers():
    runs = {
        "eager": {"step": [0.4, 0.6, 0.5], "clip": [2.0]},
        "tensorrt": {"step": [0.25], "clip": [1.0]},
    }
    flops = {"step": 10, "clip": 100}
    rows = {(r["variant"], r["operation"]): r for r in host.timings_of(runs, flops, 1000.0)}
    assert rows["tensorrt", "step"]["times_faster"] == pytest.approx(2)
    assert rows["tensorrt", "step"]["share_of_peak"] == pytest.approx(0.04)
    assert rows["eager", "step"]["times_faster"] == 1
    assert rows["eager", "clip"]["share_of_peak"] == pytest.approx(0.05)
    del runs["eager"]
    assert all(row["times_faster"] is None for row in host.timings_of(runs, flops, 1000.0))


def test_the_variants_of_pytorch_make_the_clip_that_is_timed(tiny_base_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(host, "half_copy", lambda model: model)  # a CPU is slow in halves
    monkeypatch.setattr(host, "_WARM_UPS", 0)
    job = host.Job(tiny_base_dir, tmp_path, repeats=1, steps=2, device="cpu")
    seconds, held = host.run_variant("eager", job)
    assert [len(seconds[name]) for name in ("step", "decode", "clip")] == [1, 1, 1]
    monkeypatch.setattr(host, "peak_flops", lambda device, dtype, edge: 1e15)
    record = host.record_of(job, [], {"eager": (seconds, held)}, {"tensorrt": "it was not there"})
    assert record["clip"] == {"B": 2, "F": 4, "h": 8, "w": 8}
    flops = {timing["operation"]: timing["flops"] for timing in record["timings"]}
    assert flops["clip"] == 2 * flops["step"] + flops["decode"] > 0
    assert all(0 < timing["share_of_peak"] < 1 for timing in record["timings"])
