"""The choice of engines: its rule on made-up figures, its record, and that it is found again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_fakes import machine
from unsee.core.errors import NotExportable
from unsee.export.engines.choice import (
    MARGIN,
    ClipComparison,
    MeasuredGraph,
    choose_engines,
    found_or_chosen,
    pick,
)
from unsee.export.engines.engine import Engine
from unsee.export.engines.measurement import Timing
from unsee.export.engines.record import LEAST_PSNR_DB, Candidate, EngineSelection

SIMPLE, EXACT, FAST = "onnxruntime-float32", "openvino-float32", "openvino-bfloat16"


def measured(engine, speedup=1.0, psnr_db=None, failure=None):
    timing = Timing(seconds=1 / speedup, reference_seconds=1.0, error=0.0)
    return Candidate(engine=engine, timing=timing, psnr_db=psnr_db, failure=failure)


@pytest.mark.parametrize(
    ("figures", "engine"),
    [
        ([(SIMPLE, 1.0, None), (EXACT, 1.3, 90), (FAST, 3.5, 52)], FAST),
        ([(SIMPLE, 1.0, None), (EXACT, 1.3, 90), (FAST, 3.5, 34.9)], EXACT),
        ([(SIMPLE, 1.0, None), (EXACT, 1.09, 90), (FAST, 0.5, 52)], SIMPLE),
        ([(SIMPLE, 1.0, None), (EXACT, 1.3, 90), (FAST, 1.35, 52)], EXACT),
        ([(EXACT, 0.7, 90), (FAST, 0.9, 52)], FAST),
    ],
)
def test_the_fastest_whose_frames_fit_unless_a_simpler_one_is_nearly_as_fast(figures, engine):
    assert pick([measured(*figure) for figure in figures]).engine == engine


FIGURES = st.lists(
    st.tuples(st.floats(0.1, 10), st.none() | st.floats(10, 90), st.booleans()),
    min_size=1,
    max_size=6,
)


@given(FIGURES)
def test_what_is_picked_fits_and_nothing_that_fits_is_much_faster(figures):
    offers = [
        measured(f"engine {place}", speedup, psnr_db, "broken" if broken else None)
        for place, (speedup, psnr_db, broken) in enumerate(figures)
    ]
    fitting = [offer for offer in offers if offer.fits]
    if not fitting:
        with pytest.raises(NotExportable, match="choose --engine onnxruntime"):
            pick(offers)
        return
    picked = pick(offers)
    assert picked.fits
    for offer in fitting:
        assert offer.speedup <= picked.speedup * MARGIN * (1 + 1e-9)
        if offers.index(offer) < offers.index(picked):
            assert offer.speedup * MARGIN < max(f.speedup for f in fitting)


SPEEDUPS = {SIMPLE: 1.0, EXACT: 1.2, FAST: 3.0}


@pytest.fixture(autouse=True)
def made_up_timings(monkeypatch):
    def compare(run, reference, feeds):
        speedup = SPEEDUPS[run.engine] / SPEEDUPS[reference.engine]
        return Timing(seconds=1 / speedup, reference_seconds=1.0, error=0.0)

    monkeypatch.setattr("unsee.export.engines.choice.compare", compare)


class Bench:
    """Two graphs whose engines give made-up frames."""

    def __init__(self, psnr_db=50.0, broken=(), makes_no_clip=()):
        self.opened: list[tuple[str, str]] = []
        self.judged: list[dict[str, str]] = []
        self.lines: list[str] = []
        self._psnr_db, self._broken, self._makes_no_clip = psnr_db, broken, makes_no_clip

    def subject(self, name, digest="sha256:1"):
        return MeasuredGraph(
            name=name,
            digest=digest,
            sizes={"B": 1},
            feeds=lambda: {"x": np.zeros(2)},
            open=lambda engine: self._open(name, engine),
        )

    def _open(self, name, engine):
        self.opened.append((name, str(engine)))
        if str(engine) in self._broken:
            raise NotExportable(f"{engine} cannot open {name}: no such operator")

        def run(x):
            return x

        run.engine = str(engine)
        return run

    def judge(self):
        return ClipComparison(
            others={"text_encoder": lambda **feeds: np.zeros(1)}, psnr_db=self._judge
        )

    def _judge(self, run, reference, seconds):
        self.judged.append({name: getattr(graph, "engine", SIMPLE) for name, graph in run.items()})
        if {*self.judged[-1].values()} & {*self._makes_no_clip}:
            raise NotExportable("the sampling check made no clip: values that are not finite")
        return self._psnr_db

    def choose(self, selection, here):
        subjects = [self.subject("video_denoiser"), self.subject("vae_decoder")]
        return choose_engines(subjects, selection, here, self.judge, self.lines.append)


def test_where_there_is_nothing_to_compare_nothing_is_opened():
    bench = Bench()
    choice = bench.choose(EngineSelection(), machine(openvino=False))
    assert bench.opened == []
    assert choice.engine("video_denoiser") == Engine("onnxruntime")
    reason = choice.graphs["video_denoiser"].reason
    assert reason.startswith("the only one here: the engine openvino needs its package")
    assert bench.choose(EngineSelection(engine="onnxruntime"), machine()).graphs[
        "vae_decoder"
    ].reason == ("asked for")


def test_each_graph_is_judged_with_what_was_chosen_before_it():
    bench = Bench()
    choice = bench.choose(EngineSelection(precision="bfloat16"), machine())
    assert [graph.engine for graph in choice.graphs.values()] == [FAST, FAST]
    assert bench.judged == [
        {"video_denoiser": FAST, "vae_decoder": SIMPLE, "text_encoder": SIMPLE},
        {"video_denoiser": FAST, "vae_decoder": FAST, "text_encoder": SIMPLE},
    ]
    assert choice.graphs["vae_decoder"].candidates[0].psnr_db == 50.0
    assert bench.lines == [
        f"measuring {FAST} on {name}" for name in ("video_denoiser", "vae_decoder")
    ]


def test_what_was_asked_for_is_taken_and_its_difference_is_said():
    choice = Bench(psnr_db=20.0).choose(
        EngineSelection(engine="openvino", precision="bfloat16"), machine()
    )
    reason = choice.graphs["video_denoiser"].reason
    assert reason.startswith("asked for; ")
    assert "frames 20.0 dB from float32's" in reason


def test_an_engine_that_cannot_open_a_graph_is_passed_over_and_said():
    bench = Bench(broken=(EXACT, FAST))
    choice = bench.choose(EngineSelection(), machine())
    assert choice.engine("video_denoiser") == Engine("onnxruntime")
    assert "cannot open video_denoiser: no such operator" in choice.graphs["video_denoiser"].reason
    assert bench.judged == []


def test_one_that_was_asked_for_and_cannot_be_opened_is_an_error():
    bench = Bench(broken=(FAST,))
    with pytest.raises(NotExportable, match="no such operator; choose another with --engine"):
        bench.choose(EngineSelection(engine="openvino", precision="bfloat16"), machine())


def test_the_frames_of_an_engine_that_is_not_faster_are_not_compared(monkeypatch):
    monkeypatch.setitem(SPEEDUPS, EXACT, 0.9)
    bench = Bench()
    choice = bench.choose(EngineSelection(), machine())
    assert [judged["video_denoiser"] for judged in bench.judged] == [FAST, FAST]
    assert choice.graphs["video_denoiser"].candidates[1].failure == f"{EXACT} is 0.90 times as fast"
    assert choice.engine("video_denoiser") == Engine.of(FAST)


def test_engines_whose_frames_differ_are_out():
    choice = Bench(psnr_db=LEAST_PSNR_DB - 1).choose(EngineSelection(), machine())
    assert choice.engine("video_denoiser") == Engine("onnxruntime")
    assert "at least 35 dB are wanted" in choice.graphs["video_denoiser"].reason


def test_an_engine_that_makes_no_clip_is_passed_over_and_said():
    bench = Bench(makes_no_clip=(FAST,))
    choice = bench.choose(EngineSelection(), machine())
    assert choice.engine("video_denoiser") == Engine.of(EXACT)
    failure = choice.graphs["video_denoiser"].candidates[2].failure
    assert failure == f"{FAST}: the sampling check made no clip: values that are not finite"
    with pytest.raises(NotExportable, match="not finite; choose another with --engine"):
        bench.choose(EngineSelection(engine="openvino", precision="bfloat16"), machine())


def test_a_choice_is_found_again_until_something_changes(tmp_path):
    file = tmp_path / "engines.json"
    asked = (EngineSelection(precision="bfloat16"), machine())

    def run(digest="sha256:1", selection=asked[0], here=asked[1]):
        bench = Bench()
        subjects = [bench.subject("video_denoiser", digest)]
        return found_or_chosen(file, subjects, selection, here, bench.judge, bench.lines.append)

    choice, reused = run()
    assert not reused
    assert run() == (choice, True)
    changes = [
        {"digest": "sha256:2"},
        {"selection": EngineSelection(engine="onnxruntime")},
        {"here": machine(("BF16",))},
    ]
    for change in changes:
        assert run(**change)[1] is False
        assert run(**change)[1] is True
    file.write_text("{}")
    assert run()[1] is False


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_tensorrt_is_not_measured_here(precision, monkeypatch):
    monkeypatch.setattr("unsee.export.engines.engine.find_spec", lambda name: object())
    bench = Bench()
    choice = bench.choose(
        EngineSelection(engine="tensorrt", precision=precision), machine(nvidia=True)
    )
    assert choice.engine("video_denoiser") == Engine("tensorrt", precision)
    assert bench.opened == []
