"""The comparison of engines: its figures, its turns, and a whole run on a tiny base."""

import importlib
import json
import math
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.engines import accuracy, compare, turns, variants
from benchmarks.measuring import bases, flops, in_process, processes, timing
from benchmarks.measuring.record import write_record
from unsee.export.engines.engine import Engine

Seconds = st.floats(1e-3, 1e3)


@pytest.fixture
def exported(tiny_base_dir: Path, tiny_repository_dir: Path) -> tuple[Path, Path]:
    return tiny_base_dir, tiny_repository_dir


class HereInstead:
    """Stands for a kept process: the object lives in this one."""

    def __init__(self, make: Callable[..., Any], *arguments: Any) -> None:
        self._made = make(*arguments)

    def __enter__(self) -> "HereInstead":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, method: str, *arguments: Any) -> Any:
        return getattr(self._made, method)(*arguments)

    def close(self) -> None:
        del self._made


class FakeEngine:
    """Answers at once and notes what it was asked."""

    def __init__(self, name: str, log: list[str], step_s: float = 1.0) -> None:
        self._name, self._log, self._step_s = name, log, step_s

    def call(self, method: str, *arguments: Any) -> Any:
        self._log.append(f"{self._name} {method}")
        answers = {
            "step_seconds": self._step_s,
            "clip": (2 * self._step_s, np.zeros((1, 2, 2, 3), np.uint8)),
            "flops": {"float32": float(len(self._log)), "bfloat16": 5.0},
        }
        return answers[method]


@given(st.lists(Seconds, min_size=1, max_size=20))
def test_a_spread_is_in_order(values: list[float]) -> None:
    spread = timing.Spread.of(values)
    assert spread.least <= spread.low_quartile <= spread.median
    assert spread.median <= spread.high_quartile <= spread.most
    assert (spread.least, spread.most, spread.count) == (min(values), max(values), len(values))


def test_ratios_are_taken_turn_by_turn() -> None:
    ratios = timing.times_faster([2.0, 20.0, 9.0], [1.0, 10.0, 3.0])
    assert (ratios.median, ratios.least, ratios.most) == (2.0, 2.0, 3.0)
    assert timing.times_faster([4.0], [1.0, 9.0]).count == 1


def test_the_rival_is_as_exact_and_the_fastest() -> None:
    rms = {
        "eager-float32": 0.0,
        "compile-float32": 2e-6,
        "compile-bfloat16": 9e-3,
        "openvino-float32": 1e-6,  # no nearer than float32's own rounding
        "openvino-bfloat16": 1e-2,
        "eager-bfloat16": 8e-3,
    }
    errors = {name: accuracy.StepError(value, value) for name, value in rms.items()}
    seconds = {name: turns.Seconds([1.0]) for name in rms}
    seconds["compile-bfloat16"] = turns.Seconds([0.5])
    rivals = {name: turns.rival_of(name, seconds, errors) for name in rms}
    assert rivals["openvino-float32"] == rivals["eager-bfloat16"] == "compile-float32"
    assert rivals["openvino-bfloat16"] == "compile-bfloat16"
    assert rivals["compile-bfloat16"] is None
    del seconds["compile-float32"], seconds["compile-bfloat16"]
    assert turns.rival_of("openvino-float32", seconds, errors) is None


def test_every_turn_asks_each_engine_in_another_order() -> None:
    log: list[str] = []
    engines = {name: FakeEngine(name, log) for name in ("a", "b", "c")}
    said: list[str] = []
    peak = FakeEngine("peak", log)
    seconds, best = turns.take_turns(engines, peak, {}, ("x", 1, 2), (6, 2), 0, said.append)
    assert all(each == turns.Seconds([1.0] * 6, [2.0] * 2) for each in seconds.values())
    assert len(said) == 6 + 2
    assert best == {
        "float32": max(i + 1.0 for i, e in enumerate(log) if "flops" in e),
        "bfloat16": 5,
    }
    steps = [entry[0] for entry in log if entry.endswith("step_seconds")][3:]
    orders = {tuple(steps[i : i + 3]) for i in range(0, len(steps), 3)}
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert len(orders) > 1


def test_errors_are_in_standard_deviations() -> None:
    exact = [np.array([-2.0, 2.0]), np.array([2.0, -2.0])]
    error = accuracy.step_error([exact[0] + 1, exact[1]], exact)
    assert error.largest == 0.5
    assert error.rms == pytest.approx(0.5 / math.sqrt(2))


def test_what_a_judge_sees_is_compared_question_by_question() -> None:

    class Clips:
        def __init__(self, level: int) -> None:
            self._level = level

        def call(self, method: str, prompt: str, seed: int, steps: int) -> Any:
            return 0.0, np.array([self._level + seed])

    seen = accuracy.judged(
        Clips(0),
        Clips(1),
        [("first", 0), ("second", 1)],
        lambda frames, shown: {"cat": bool(frames[0] == shown), "red": bool(frames[0] < 2)},
        {"cat": "object", "red": "style"},
        steps=1,
        say=lambda line: None,
    )
    expected = {"named": 2, "exact": 2, "other": 0, "only_exact": 2, "only_other": 0}
    assert seen["object"] == expected | {"points": -100}
    assert (seen["style"]["exact"], seen["style"]["other"]) == (2, 1)
    assert seen["all"]["named"] == 4


def test_an_object_in_a_process_of_its_own() -> None:
    with processes.KeptProcess(dict, {"pid": 1}) as kept:
        kept.call("update", {"a": 2})
        assert kept.call("get", "a") == 2
        with pytest.raises(processes.ProcessFailed, match="KeyError: 'absent'"):
            kept.call("pop", "absent")
        assert kept.call("get", "pid") == 1
    with pytest.raises(processes.ProcessFailed, match="ValueError: invalid literal"):
        processes.KeptProcess(int, "x")
    with processes.KeptProcess(importlib.import_module, "os") as kept:
        assert kept.call("getpid") != os.getpid()
        with pytest.raises(processes.ProcessFailed, match="killed, as the system does"):
            kept.call("kill", kept.call("getpid"), signal.SIGKILL)
        with pytest.raises(processes.ProcessFailed, match="killed"):
            kept.call("getpid")
    assert processes.in_own_process(os.getpid) != os.getpid()
    with pytest.raises(processes.ProcessFailed, match="ValueError: invalid literal"):
        processes.in_own_process(int, "x")


def test_flops_are_counted_without_computing(exported: tuple[Path, Path]) -> None:
    table = flops.base_flops(exported[0])
    guided, one_row = (table.of_clip_call("video_denoiser", B=rows) for rows in (2, 1))
    assert guided == pytest.approx(2 * one_row, rel=0.01)
    assert table.of_clip_call("video_denoiser", F=8) > 1.9 * guided
    assert table.of_clip(5) - table.of_clip(4) == guided


def test_flops_of_a_causal_decoder_count_its_first_frame_once(
    pipeline_base_dir: Callable[[str], Path],
) -> None:
    table = flops.base_flops(pipeline_base_dir("WanPipeline"))
    names = ("text_encoder", "vae_decoder", "vae_decoder_next")  # 5 frames: 2 latent frames
    assert all(table.of_clip_call(name) > 0 for name in names)
    once = sum(map(table.of_clip_call, names))
    assert table.of_clip(3) == once + 3 * table.of_clip_call("video_denoiser")


def test_engines_take_any_shape_or_each_for_itself(exported: tuple[Path, Path]) -> None:
    for any_shapes, opened in ((True, 1), (False, 2)):
        graphs = in_process.opened_graphs(exported[1], lambda _: Engine("openvino"), 1, any_shapes)
        clips = in_process.InProcess(exported[1], graphs)
        for frames in (2, 4):
            clip = clips.generate("a cat", 1, num_frames=frames, num_inference_steps=2)
            assert clip.shape == (frames, 64, 64, 3)
        assert len(graphs["video_denoiser"]._opened) == opened
        assert len(graphs["text_encoder"]._opened) == 1


def test_a_whole_run_in_which_one_engine_fails(
    exported: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:

    def here(function: Callable[..., Any], *given: Any) -> Any:
        return bases.Exported(*exported) if function is bases.export_base else function(*given)

    def runner(job: variants.Job) -> variants.Runner:
        if job.variant == "openvino-bfloat16":
            raise processes.ProcessFailed("it was killed, as the system does when memory runs out")
        return variants.Runner(job)

    for module in (compare, turns):
        monkeypatch.setattr(module, "KeptProcess", HereInstead)
    monkeypatch.setattr(compare, "Runner", runner)
    monkeypatch.setattr(compare, "in_own_process", here)
    monkeypatch.setattr(compare, "has_matrix_units", lambda: False)
    monkeypatch.setattr(turns, "_MATMUL_EDGE", 64)
    monkeypatch.setattr(turns, "LEAST_STEP_S", 0.0)
    kept = partial(write_record, folder=tmp_path)
    monkeypatch.setattr(compare, "write_record", kept)
    chosen = ["onnxruntime-float32", "openvino-float32", "eager-bfloat16"]
    asked = [*chosen, "openvino-bfloat16"]
    options = [part for name in asked for part in ("--engine", name)]
    options += ["--size", "playground", "--turns", "2", "--threads", "1", "--judge", "0", "--write"]
    result = CliRunner().invoke(compare.engines, options)
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)["playground"]
    rows = {row["engine"]: row for row in record["rows"]}
    assert set(rows) == {"eager-float32", *chosen}
    assert rows["eager-float32"]["step_times_eager"]["median"] == 1
    assert rows["eager-float32"]["error"]["rms"] == 0
    assert rows["onnxruntime-float32"]["error"]["rms"] < 1e-4
    assert 1e-4 < rows["eager-bfloat16"]["error"]["rms"] < 0.2
    assert all(row["step_s"]["count"] == row["clip_s"]["count"] == 2 for row in rows.values())
    assert all(row["share_of_peak"] > 0 for row in rows.values())
    assert set(record["failures"]) == {"openvino-bfloat16"}
    assert record["failures"]["openvino-bfloat16"].startswith("it was killed")
    kept_in = tmp_path / "performance" / "without_matrix_units"
    assert json.loads((kept_in / "engines-playground.json").read_text()) == record
