"""The benchmark of acceleration: its sums, its guidance that is reused, and its page."""

import asyncio
import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from unsee.evaluation.report.statistics import mean_of, rate_of

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ROWS = np.array([[1.0], [4.0]], np.float32)


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("acceleration")


@pytest.fixture
def page_module(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("acceleration_page")


class TwoRows:
    """Graphs whose conditional row grows by one with each call."""

    def __init__(self):
        self.rows_asked = []

    async def text_encoder(self, encoder, input_ids):
        return input_ids

    async def vae_decoder(self, latents):
        return latents

    async def video_unet(self, sample, timestep, hidden):
        self.rows_asked.append(len(sample))
        return ROWS[-len(sample) :] + np.float32(len(self.rows_asked) - 1)


def test_an_unguided_evaluation_keeps_the_last_difference(benchmark):
    graphs = TwoRows()
    reused = benchmark.ReusedGuidance(graphs, frozenset({0, 2}))
    two = np.zeros((2, 1), np.float32)
    answers = [asyncio.run(reused.video_unet(two, two, two)) for _ in range(3)]
    assert graphs.rows_asked == [2, 1, 2]
    assert [answer.ravel().tolist() for answer in answers] == [[1, 4], [2, 5], [3, 6]]


def test_the_prompts_are_as_many_as_asked_for_and_always_the_same(benchmark):
    cases = benchmark.cases_of_evaluation(64)
    assert len(cases) == 64
    assert cases == benchmark.cases_of_evaluation(64)


def test_a_candidate_is_held_to_the_first_prompt_by_prompt(benchmark):
    def made(value, seconds, outcomes):
        return benchmark.Made(np.full((1, 2, 2, 3), value, np.uint8), seconds, 5, outcomes)

    firsts = [made(10, 4.0, [True, True]), made(10, 6.0, [True])]
    clips = [made(11, 2.0, [True, False]), made(12, 2.0, [True])]
    row = benchmark.figures(benchmark.Candidate("fast", 12, "fast"), clips, firsts)
    assert row.speedup == 2.5
    assert row.psnr_least == pytest.approx(20 * np.log10(255 / 2))
    assert row.recognised["hits"] == 2
    assert row.points_lost["value"] == pytest.approx(100 / 3)
    itself = benchmark.figures(benchmark.Candidate("none", 12), firsts, firsts)
    assert (itself.psnr_mean, itself.points_lost["value"]) == (None, 0.0)


def test_the_page_shows_what_its_json_holds(page_module, tmp_path):
    row = page_module.Figures(
        name="fast",
        acceleration="fast",
        evaluations=5,
        seconds=1.25,
        speedup=2.0,
        psnr_mean=31.04,
        psnr_least=None,
        recognised=rate_of([True, True, False, True]).model_dump(),
        points_lost=mean_of([0.0, 100.0], seed=0).model_dump(),
    )
    none = page_module.Figures(**(vars(row) | {"psnr_mean": None, "name": "other"}))
    row = page_module.Figures(**(vars(row) | {"psnr_least": 28.4}))
    page = page_module.Page(4, 1, 16, 12, 3.5, "2026.4", [row], [none], 4)
    page_module.write_page(page, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "| `fast` | 5 | 1.25 | 2.00× | 31.0, 28.4 | 75.0 % [30.1, 95.4] of 4 |" in text
    assert "| other, `fast` | 5 | 1.25 | 2.00× | – |" in text
    record = json.loads((tmp_path / "page.json").read_text())
    assert record["main"][0]["psnr_mean"] == 31.04
