"""How long a supervisor waits, and how often it tries again; knows nothing of what is tried."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """How often the server may be started again within `window_s` seconds, and what waits are.

    The first try is at once, the next after `first_wait_s`, twice that, … up to `longest_wait_s`.
    A model's process is replaced without a limit, with the same waits. One that gives no answer and
    does nothing for `hang_s` hangs; 0: none ever does.
    """

    hang_s: float = 30.0
    max_restarts: int = 5
    window_s: float = 300.0
    first_wait_s: float = 1.0
    longest_wait_s: float = 30.0


class Tries:
    """When something was tried within a window, and so when it may be tried again."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._times: deque[float] = deque()

    def count(self, now: float) -> int:
        """How many tries lie within the window."""
        while self._times and self._times[0] <= now - self._patience.window_s:
            self._times.popleft()
        return len(self._times)

    def wait_s(self, now: float) -> float:
        """How long the next try has to wait."""
        tries = self.count(now)
        if not tries:
            return 0.0
        patience = self._patience
        wait_s = min(patience.first_wait_s * 2.0 ** (tries - 1), patience.longest_wait_s)
        return max(0.0, self._times[-1] + wait_s - now)

    def tried(self, now: float) -> None:
        """Note a try."""
        self._times.append(now)
