"""How fast and how exact an engine is on one exported graph, against ONNX Runtime in float32.

Knows arrays, clocks and functions; knows no file, no base and not what is decided by the figures.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

import numpy as np

from unsee.core.validation import ClosedModel
from unsee.export.engines.session import Array, Runnable

ROUNDS = 6
ROUNDS_S = 3.0
"""A candidate and the reference are timed in turn until one of these two is reached."""

Feeds = Mapping[str, Array]
Clock = Callable[[], float]


class Timing(ClosedModel):
    """Median seconds of a call, and of the reference's calls in between; the error of its output.

    `error` is the root mean square of the difference over the standard deviation of the
    reference's output.
    """

    seconds: float
    reference_seconds: float
    error: float

    @property
    def speedup(self) -> float:
        """How many times as fast as the reference."""
        return self.reference_seconds / self.seconds


class Remembered:
    """A function of arrays that computes nothing twice: equal inputs get the output of then.

    Several outputs are not kept: what a decoder carries from one latent frame of a clip to the next
    is gigabytes at Wan's real size, and one decoding more takes little time.
    """

    def __init__(self, run: Runnable) -> None:
        self.run = run
        self._outputs: dict[bytes, Any] = {}

    def __call__(self, **feeds: Array) -> Any:
        digest = sha256()
        for name, array in sorted(feeds.items()):
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        key = digest.digest()
        if key in self._outputs:
            return self._outputs[key]
        output = self.run(**feeds)
        if not isinstance(output, tuple):
            self._outputs[key] = output
        return output


def compare(
    run: Runnable, reference: Runnable, feeds: Feeds, clock: Clock = time.perf_counter
) -> Timing:
    """Time `run` and `reference` in turn on the same inputs; of outputs, the first is compared.

    The first round warms up and does not count, unless it alone took all the time that there is.
    """
    expected: Any = None
    actual: Any = None
    rounds: list[tuple[float, float]] = []
    started = clock()
    while not rounds or (len(rounds) < ROUNDS and clock() - started < ROUNDS_S):
        begun = clock()
        expected = reference(**feeds)
        between = clock()
        actual = run(**feeds)
        rounds.append((clock() - between, between - begun))
    seconds, reference_seconds = zip(*(rounds[1:] or rounds), strict=True)
    return Timing(
        seconds=statistics.median(seconds),
        reference_seconds=statistics.median(reference_seconds),
        error=_error(_first(actual), _first(expected)),
    )


def _first(outputs: Any) -> Array:
    first: Array = outputs[0] if isinstance(outputs, tuple) else outputs
    return first


def _error(actual: Array, expected: Array) -> float:
    wanted = expected.astype(np.float64)
    difference = actual.astype(np.float64) - wanted
    return float(np.sqrt(np.square(difference).mean()) / (wanted.std() or 1.0))
