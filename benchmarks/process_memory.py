"""Memory of the processes that this one has started, and of those that they have started.

Pages that several share count once, split between them (the kernel's proportional set size).
"""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")


def memory_of_children() -> int:
    """Bytes, this process left out."""
    return sum(_proportional_bytes(pid) for pid in descendants(os.getpid()))


def descendants(pid: int) -> list[int]:
    """The processes below `pid`, at any depth."""
    parents = {int(p.name): _parent(p) for p in _PROC.iterdir() if p.name.isdigit()}
    found, seen = [pid], 0
    while seen < len(found):
        found += [child for child, parent in parents.items() if parent == found[seen]]
        seen += 1
    return found[1:]


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text(encoding="ascii").rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _proportional_bytes(pid: int) -> int:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:  # it has ended meanwhile
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
