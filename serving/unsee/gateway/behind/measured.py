"""How long clips take here, learnt from those that were made: the ground for estimates.

Clips of one size say nothing of another size: a tiny clip takes its fixed share of time whatever
its size, and would make a large one look a hundred times as long as it is. So each size, in frames,
pixels and steps, is estimated from clips of that very size; one that was not made lately has no
estimate, and nobody is refused by it.
"""

from __future__ import annotations

import statistics
from collections import OrderedDict, deque
from collections.abc import Sequence

from unsee.core.record import GenerationRecord
from unsee.gateway.callers.request import ClipRequest

REMEMBERED = 32
"""Clips of a size that its estimate is made from."""
REMEMBERED_SIZES = 256
SHAPE_FIELDS = ("num_frames", "height", "width")
SIZE_FIELDS = ("num_inference_steps", *SHAPE_FIELDS)
MOST_WORK = 64.0
"""No request counts for more, or a slip of the pen would cost its tenant every turn for hours."""
LEAST_WORK = 0.05
"""No request counts for less: the place, the prompt and the calls of the smallest clip cost too."""
UNMEASURED_IDLE_S = 120.0
LEAST_IDLE_S = 10.0
IDLE_STEPS = 20
"""How many of the slowest recent steps a silence may last: other clips' steps come between."""

Size = tuple[int | None, ...]
"""Values of some of `SIZE_FIELDS`; None where neither the request nor an earlier clip says one."""


class Measured:
    """What the last clips took, by their size."""

    def __init__(self) -> None:
        self._defaults: dict[str, int] = {}
        self._clips = _Recent()
        self._gaps = _Recent()

    def work(self, request: ClipRequest) -> float:
        """The size of a clip in clips of the default size, within `LEAST_WORK` and `MOST_WORK`."""
        return min(max(self._relative(request), LEAST_WORK), MOST_WORK)

    def seconds(self, request: ClipRequest) -> float | None:
        """What the clip takes, by the median of the last ones of its size; None if unmeasured."""
        seen = self._clips.of(self._size(request, SIZE_FIELDS))
        return statistics.median(seen) if seen else None

    def idle_timeout_s(self, request: ClipRequest) -> float:
        """How long the stream of `request` may be silent before its model counts as dead.

        By the silences of clips of as many frames and pixels: the number of steps changes none,
        but a clip whose frames are streamed is not silent while it is decoded.
        """
        seen = self._gaps.of(self._silence(request))
        if not seen:
            return UNMEASURED_IDLE_S * max(1.0, self.work(request))
        return max(LEAST_IDLE_S, IDLE_STEPS * max(seen))

    def saw_clip(
        self, request: ClipRequest, record: GenerationRecord, seconds: float, longest_gap_s: float
    ) -> None:
        """Note a clip: what it took in all, and the longest silence between two of its events."""
        for name in SIZE_FIELDS:
            if getattr(request, name) is None:
                self._defaults[name] = getattr(record, name)
        self._clips.add(self._size(request, SIZE_FIELDS), seconds)
        self._gaps.add(self._silence(request), longest_gap_s)

    def _silence(self, request: ClipRequest) -> Size:
        return (*self._size(request, SHAPE_FIELDS), bool(request.stream_frames))

    def _size(self, request: ClipRequest, names: Sequence[str]) -> Size:
        values = ((getattr(request, name), self._defaults.get(name)) for name in names)
        return tuple(default if value is None else value for value, default in values)

    def _relative(self, request: ClipRequest) -> float:
        work = 1.0
        for name in SIZE_FIELDS:
            value, default = getattr(request, name), self._defaults.get(name)
            if value is not None and default:
                work *= max(value, 1) / default
        return work


class _Recent:
    """The last `REMEMBERED` values of each of the last `REMEMBERED_SIZES` sizes."""

    def __init__(self) -> None:
        self._values: OrderedDict[Size, deque[float]] = OrderedDict()

    def of(self, size: Size) -> Sequence[float]:
        return self._values.get(size, ())

    def add(self, size: Size, value: float) -> None:
        self._values.setdefault(size, deque(maxlen=REMEMBERED)).append(value)
        self._values.move_to_end(size)
        while len(self._values) > REMEMBERED_SIZES:
            self._values.popitem(last=False)
