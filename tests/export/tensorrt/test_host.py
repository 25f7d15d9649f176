"""The script for GPU hosts, as far as it runs without one: its table and its CPU parts.

`made_up_tensorrt_host.json` was made up for this test. Nothing in it was measured.
"""

from __future__ import annotations

import importlib
import io
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
MADE_UP = Path(__file__).with_name("made_up_tensorrt_host.json")


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def made_up(load):
    return load("tensorrt_record").HostRecord.model_validate_json(MADE_UP.read_bytes())


def test_without_tensorrt_one_sentence_says_what_to_install_and_the_exit_code_is_2(
    load, tiny_base_dir, tmp_path
):
    if importlib.util.find_spec("tensorrt"):
        pytest.skip("TensorRT is installed here")
    arguments = ["--base", str(tiny_base_dir), "--output-dir", str(tmp_path / "out")]
    result = CliRunner().invoke(load("tensorrt_host").tensorrt_host, arguments)
    assert result.exit_code == 2
    assert "pip install tensorrt" in result.output
    assert result.output.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_table_compares_with_eager_diffusers(load, made_up):
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(load("tensorrt_record").table_of(made_up))
    lines = [line.replace("│", " ").split() for line in console.export_text().splitlines()]
    rows = {tuple(words[:2]): words for words in lines}
    assert "0.2000" in rows["tensorrt", "step"]
    assert "2.00" in rows["tensorrt", "step"]
    assert "25%" in rows["tensorrt", "step"]
    assert "1.00" in rows["eager", "step"]
    assert made_up.times_faster(made_up.timings[-1]) == pytest.approx(2)


def test_the_variants_of_pytorch_make_the_clip_that_is_timed(
    load, tiny_base_dir, tmp_path, monkeypatch
):
    variants = load("tensorrt_variants")
    monkeypatch.setattr(variants, "half_copy", lambda model: model)  # a CPU is slow in halves
    monkeypatch.setattr(variants, "_WARM_UPS", 0)
    job = variants.Job(tiny_base_dir, tmp_path, repeats=1, steps=2, device="cpu")
    run = variants.run_variant("eager", job)
    assert [len(run.seconds[name]) for name in ("step", "decode", "clip")] == [1, 1, 1]
    assert run.flops["clip"] == 2 * run.flops["step"] + run.flops["decode"] > 0
    host = load("tensorrt_host")
    monkeypatch.setattr(host, "peak_flops", lambda device, dtype, edge: 1e15)
    record = host.record_of(job, (), {"eager": run}, {"tensorrt": "it was not there"})
    assert record.clip == {"B": 2, "F": 4, "h": 8, "w": 8}
    assert all(0 < timing.share_of_peak < 1 for timing in record.timings)
