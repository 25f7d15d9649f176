"""The model processes ("stubs") of a tritonserver, as the system's process table has them.

Triton starts one process per version of a model, never starts another when it dies, and goes on
saying that the version is ready. It does not reap such a process either: its entry stays in the
table without a command line. Linux only; knows nothing of ports, repositories and repairs.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

STUB = "triton_python_backend_stub"
PROCESSES = Path("/proc")
NOISE_S = 0.05
"""CPU seconds that are no work; a stub without requests uses none at all."""


@dataclass(frozen=True, order=True)
class ModelVersion:
    """One version of one Triton model."""

    model: str
    version: int

    def __str__(self) -> str:
        return f"{self.model}, version {self.version}"


def live_stubs(session: int) -> dict[int, ModelVersion]:
    """The model processes that live in a session, by process id (a guard's is its server's)."""
    found = {}
    for folder in PROCESSES.iterdir():
        if folder.name.isdigit():
            version = _version(folder, session)
            if version is not None:
                found[int(folder.name)] = version
    return found


def _version(folder: Path, session: int) -> ModelVersion | None:
    """What the process is for; None if it is no stub of the session or has ended."""
    try:
        if os.getsid(int(folder.name)) != session:
            return None
        arguments = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except (ProcessLookupError, FileNotFoundError, PermissionError):
        return None
    if Path(arguments[0]).name != STUB or len(arguments) < 2:
        return None
    version_dir = Path(arguments[1]).parent
    if not version_dir.name.isdigit():
        return None
    return ModelVersion(version_dir.parent.name, int(version_dir.name))


class Quiet:
    """For how long the stubs of a session have computed nothing, whatever their server says."""

    def __init__(self, session: int) -> None:
        self._session = session
        self._used_s = self._cpu_seconds()
        self._since = time.monotonic()

    def seconds(self) -> float:
        """Seconds since a stub last worked, as far as the calls of this method saw it."""
        now, used_s = time.monotonic(), self._cpu_seconds()
        if abs(used_s - self._used_s) > NOISE_S:
            self._used_s, self._since = used_s, now
        return now - self._since

    def _cpu_seconds(self) -> float:
        ticks = 0
        for pid in live_stubs(self._session):
            try:
                fields = (PROCESSES / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
            except (ProcessLookupError, FileNotFoundError):
                continue
            ticks += int(fields[11]) + int(fields[12])  # in user and in kernel mode, see proc(5)
        return ticks / os.sysconf("SC_CLK_TCK")
