"""The model processes ("stubs") of a tritonserver, as the system's process table has them.

Triton starts one process per version of a model, never starts another when it dies, and goes on
saying that the version is ready. It does not reap such a process either: its entry stays in the
table without a command line. Linux only.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from math import inf
from pathlib import Path

from unsee.triton.server import ModelVersion

STUB = "triton_python_backend_stub"
PROCESSES = Path("/proc")
BUSY_SHARE = 0.2
"""A process that computes has a thread that runs or wants to nearly all the time; idle: 0.003."""
WINDOW_S = 0.5
"""In a shorter time a single late wake-up of an idle process would look like work."""


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


@dataclass(frozen=True)
class Effort:
    """What a process has done since it began: seconds in which its threads ran or wanted a core.

    `on_disk`: a thread waits for a disk, or for memory that is on one, at the moment.
    """

    computed_s: float
    waited_s: float
    on_disk: bool

    def since(self, before: Effort | None) -> float:
        """Seconds in which it worked or would have; endless if nothing is known or it waits."""
        if before is None or self.on_disk:
            return inf
        return abs(self.computed_s - before.computed_s + self.waited_s - before.waited_s)


def effort(pid: int) -> Effort | None:
    """The effort of a process; None if it has ended. Without `schedstat` nobody waits for cores."""
    computed_s = waited_s = 0.0
    on_disk = False
    try:
        for task in (PROCESSES / str(pid) / "task").iterdir():
            fields = (task / "stat").read_bytes().rpartition(b")")[2].split()
            on_disk |= fields[0] == b"D"
            try:
                ran_ns, runnable_ns = (task / "schedstat").read_bytes().split()[:2]
            except FileNotFoundError:
                computed_s += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            else:
                computed_s += int(ran_ns) / 1e9
                waited_s += int(runnable_ns) / 1e9
    except (ProcessLookupError, FileNotFoundError):
        return None
    return Effort(computed_s, waited_s, on_disk)


class Quiet:
    """For how long no stub of a session has worked, or wanted to, whatever its server says."""

    def __init__(self, session: int) -> None:
        self._session = session
        self._efforts = self._seen()
        self._looked_at = self._since = time.monotonic()

    def seconds(self) -> float:
        """Seconds since a stub was last busy, as far as the calls of this method saw it."""
        now = time.monotonic()
        elapsed_s = now - self._looked_at
        if elapsed_s >= WINDOW_S:
            before, self._efforts, self._looked_at = self._efforts, self._seen(), now
            worked_s = sum(found.since(before.get(pid)) for pid, found in self._efforts.items())
            if worked_s > BUSY_SHARE * elapsed_s:
                self._since = now
        return now - self._since

    def _seen(self) -> dict[int, Effort]:
        found = {pid: effort(pid) for pid in live_stubs(self._session)}
        return {pid: done for pid, done in found.items() if done is not None}
