"""How much memory this process held at most during a piece of work; knows nothing of the work."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


@dataclass
class PeakMemory:
    """`peak_bytes` is known after the block of `peak_memory`."""

    peak_bytes: int = 0


@contextmanager
def peak_memory() -> Iterator[PeakMemory]:
    """Measure the most resident memory that this process held in the block, in bytes.

    On Linux the kernel's high-water mark is set back first (proc(5), `clear_refs`), so blocks must
    neither nest nor overlap. Elsewhere it is the most since the process began.
    """
    is_reset = _reset()
    measured = PeakMemory()
    try:
        yield measured
    finally:
        measured.peak_bytes = high_water_mark() if is_reset else _most_ever()


def _reset() -> bool:
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def high_water_mark() -> int:
    """The most resident memory since the process began or the mark was set back (Linux)."""
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _most_ever() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
