"""How long clips take here, learnt from those that were made: the ground for estimates.

Knows no request's content but its size, and promises nothing until a clip has been made.
"""

from __future__ import annotations

from collections import deque

from unsee.core.record import GenerationRecord
from unsee.gateway.callers.request import ClipRequest

REMEMBERED = 64
SIZE_FIELDS = ("num_inference_steps", "num_frames", "height", "width")
MOST_WORK = 64.0
"""No request counts for more, or a slip of the pen would cost its tenant every turn for hours."""
UNMEASURED_IDLE_S = 120.0
LEAST_IDLE_S = 10.0
IDLE_STEPS = 20
"""How many of the slowest recent steps a silence may last: other clips' steps come between."""


class Measured:
    """What the last clips took."""

    def __init__(self) -> None:
        self._defaults: dict[str, int] = {}
        self._seconds: deque[float] = deque(maxlen=REMEMBERED)
        self._gaps: deque[float] = deque(maxlen=REMEMBERED)

    def work(self, request: ClipRequest) -> float:
        """The size of a clip in clips of the default size, at most `MOST_WORK`."""
        work = 1.0
        for field in SIZE_FIELDS:
            value, default = getattr(request, field), self._defaults.get(field)
            if value is not None and default:
                work *= max(value, 1) / default
        return min(work, MOST_WORK)

    def seconds(self, request: ClipRequest) -> float | None:
        """What the clip takes at best, by the fastest of the last clips; None if unmeasured."""
        return self.work(request) * min(self._seconds) if self._seconds else None

    def idle_timeout_s(self) -> float:
        """How long a stream may be silent before its model counts as dead."""
        if not self._gaps:
            return UNMEASURED_IDLE_S
        return max(LEAST_IDLE_S, IDLE_STEPS * max(self._gaps))

    def saw_gap(self, seconds: float) -> None:
        """Note the time between two events of a stream."""
        self._gaps.append(seconds)

    def saw_clip(self, request: ClipRequest, record: GenerationRecord, seconds: float) -> None:
        """Note a clip and what it took from Triton's first to its last answer."""
        for field in SIZE_FIELDS:
            if getattr(request, field) is None:
                self._defaults[field] = getattr(record, field)
        self._seconds.append(seconds / self.work(request))
