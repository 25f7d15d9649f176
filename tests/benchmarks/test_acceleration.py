"""The benchmark of acceleration: its prompts and its sums."""

import numpy as np
import pytest

from benchmarks.engines import acceleration


def test_the_prompts_are_as_many_as_asked_for_and_always_the_same():
    cases = acceleration.cases_of_evaluation(64)
    assert len(cases) == 64
    assert cases == acceleration.cases_of_evaluation(64)


def test_a_candidate_is_held_to_the_first_prompt_by_prompt():
    def made(value, seconds, outcomes):
        return acceleration.Made(np.full((1, 2, 2, 3), value, np.uint8), seconds, 5, outcomes)

    firsts = [made(10, 4.0, [True, True]), made(10, 6.0, [True])]
    clips = [made(11, 2.0, [True, False]), made(12, 2.0, [True])]
    row = acceleration.figures(acceleration.Candidate("fast", 12, "fast"), clips, firsts)
    assert row["speedup"] == 2.5
    assert row["psnr_least"] == pytest.approx(20 * np.log10(255 / 2))
    assert row["recognised"]["hits"] == 2
    assert row["points_lost"]["value"] == pytest.approx(100 / 3)
    itself = acceleration.figures(acceleration.Candidate("none", 12), firsts, firsts)
    assert (itself["psnr_mean"], itself["points_lost"]["value"]) == (None, 0.0)
