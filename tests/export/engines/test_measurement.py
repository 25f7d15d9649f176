"""Timing two functions in turn, the error of one, and computing nothing twice."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

from unsee.export.engines.measurement import ROUNDS, ROUNDS_S, Remembered, compare


class Hands:
    """A clock that only moves when a function is called."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def taking(self, *seconds, output=0.0):
        left = list(seconds)

        def run(x):
            self.now += left.pop(0) if len(left) > 1 else left[0]
            return x + output

        return run


X = np.array([-1.0, 1.0, -1.0, 1.0], np.float32)


def test_the_first_round_warms_up_and_the_median_counts():
    clock = Hands()
    run = clock.taking(0.1, 0.02, 0.01, 0.01, 0.05, 0.01)
    timing = compare(run, clock.taking(0.1, 0.03), {"x": X}, clock)
    assert timing.seconds == pytest.approx(0.01)
    assert timing.reference_seconds == pytest.approx(0.03)
    assert timing.speedup == pytest.approx(3.0)


def test_a_round_that_takes_all_the_time_is_the_only_one():
    clock = Hands()
    timing = compare(clock.taking(100), clock.taking(300), {"x": X}, clock)
    assert (timing.seconds, timing.reference_seconds) == (100, 300)
    assert clock.now == 400


def test_quick_functions_are_called_a_few_times_only():
    clock = Hands()
    compare(clock.taking(1e-3), clock.taking(1e-3), {"x": X}, clock)
    assert clock.now == pytest.approx(2e-3 * ROUNDS)
    assert clock.now < ROUNDS_S


def test_the_error_is_relative_to_the_references_spread():
    clock = Hands()
    timing = compare(clock.taking(1, output=0.5), clock.taking(1), {"x": X}, clock)
    assert timing.error == pytest.approx(0.5)


def test_nothing_is_computed_twice_and_nothing_is_mixed_up():
    calls = []

    def run(**feeds):
        calls.append(feeds)
        return sum(array.sum() for array in feeds.values())

    remembered = Remembered(run)
    ones, twos = np.ones(4), 2 * np.ones(4)
    assert [remembered(a=ones, b=twos) for _ in range(2)] == [12, 12]
    assert len(calls) == 1
    assert remembered(a=twos, b=twos) == 16
    assert remembered(a=twos.reshape(2, 2), b=twos) == 16
    assert remembered(a=ones.astype(np.float32), b=twos) == 12
    assert len(calls) == 4


def test_what_a_decoder_carries_through_a_clip_is_not_kept():
    remembered = Remembered(lambda latents: (latents, np.zeros(9)))
    carried = weakref.ref(remembered(latents=np.ones(4))[1])
    assert carried() is None
