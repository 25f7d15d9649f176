"""Frames of large clips through system shared memory, where client and Triton share a machine.

Triton copies the frames into a region that the client made, and gRPC carries only its name. A
region holds one clip. Its file is removed as soon as Triton has it open, so that nothing is left in
/dev/shm whatever happens to the client; what Triton itself keeps of clients that were killed is
unregistered by the next one. A server that refuses, as the gateway does, is never asked again.
"""

from __future__ import annotations

import mmap
import os
import secrets
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tritonclient.grpc import service_pb2

from unsee.client.wire.steps import Ask, Work
from unsee.client.wire.transport import CallFailed

FOLDER = Path("/dev/shm")
LEAST_BYTES = 4 * 1024 * 1024
"""Smaller clips arrive sooner without it; docs/guide/client.md has the measurement."""
ASK_TIMEOUT_S = 5.0
PREFIX = "unsee-clip"
IN_USE = "currently in use"
"""Triton's words: a request may still be writing to the region."""


@dataclass(eq=False)
class Region:
    """Memory for the frames of one clip, registered under `name`; `memory` is read-only."""

    name: str
    num_bytes: int
    memory: mmap.mmap
    lent: bool = True


@dataclass
class SharedMemory:
    """The regions of one client.

    Args:
        possible: the server may be on this machine and has not refused yet.
        least_bytes: of clips that it is used for.
    """

    possible: bool
    least_bytes: int = LEAST_BYTES
    _asked: bool = field(default=False, init=False)
    _abandoned: list[str] = field(default_factory=list, init=False)

    def lend(self, num_bytes: int | None) -> Generator[Work, Any, Region | None]:
        """A region for a clip of `num_bytes`; None where plain gRPC is better, or all there is.

        The size has to be known: Triton fails a clip that does not fit when it is already made.
        """
        if num_bytes is None or num_bytes < self.least_bytes or not self.possible:
            return None
        try:
            if not self._asked:
                yield from self._unregister_orphans()
                self._asked = True
            yield from self.settle()
            return (yield from self._registered(num_bytes))
        except (CallFailed, OSError):
            self.possible = False
            return None

    def take_back(self, region: Region | None) -> Generator[Work, Any, None]:
        """Unregisters a region whose stream has ended. Its memory lives as long as the clip."""
        if region is None:
            return
        region.lent = False
        if not (yield from _unregistered(region.name)):
            self._abandoned.append(region.name)

    def abandon(self, region: Region | None) -> None:
        """Leaves a region that may still be written to until `settle`."""
        if region is not None and region.lent:
            region.lent = False
            self._abandoned.append(region.name)

    @property
    def unsettled(self) -> int:
        """How many regions Triton may still hold though nobody waits for their clips."""
        return len(self._abandoned)

    def settle(self) -> Generator[Work, Any, None]:
        """Tries to unregister what was abandoned; Triton refuses while it may still write there."""
        for name in list(self._abandoned):
            if (yield from _unregistered(name)) and name in self._abandoned:
                self._abandoned.remove(name)

    def _registered(self, num_bytes: int) -> Generator[Work, Any, Region]:
        """A new region; raises CallFailed or OSError, and leaves no file in any case."""
        name = f"{_owner()}-{secrets.token_hex(8)}"
        path = FOLDER / name
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, num_bytes)  # else a full /dev/shm would kill Triton
            region = Region(name, num_bytes, mmap.mmap(descriptor, num_bytes, prot=mmap.PROT_READ))
            yield _ask("Register", name=name, key=f"/{name}", byte_size=num_bytes)
        except GeneratorExit:  # the caller left before the answer
            self._abandoned.append(name)
            raise
        finally:
            os.close(descriptor)
            path.unlink()
        return region

    def _unregister_orphans(self) -> Generator[Work, Any, None]:
        status = yield _ask("Status")
        for name in status.regions:
            if _is_orphan(name):
                yield from _unregistered(name)


def _unregistered(name: str) -> Generator[Work, Any, bool]:
    """Whether Triton has let go of the region, or is not there any more."""
    try:
        yield _ask("Unregister", name=name)
    except CallFailed as failure:
        return IN_USE not in failure.details
    return True


def _ask(what: str, **fields: Any) -> Ask:
    method = f"SystemSharedMemory{what}"
    return Ask(method, getattr(service_pb2, f"{method}Request")(**fields), ASK_TIMEOUT_S)


def _owner() -> str:
    """This process: its process id means nothing outside its namespace, and is given again."""
    pid = os.getpid()
    return f"{PREFIX}-{_namespace()}-{pid}-{_started(pid)}"


def _is_orphan(region_name: str) -> bool:
    """Whether the process that made the region lived here and has ended."""
    owner = region_name.rpartition("-")[0]
    parts = owner.removeprefix(f"{PREFIX}-").split("-")
    if not owner.startswith(PREFIX) or len(parts) != 3 or not all(p.isdigit() for p in parts):
        return False
    namespace, pid, started = (int(part) for part in parts)
    return namespace == _namespace() and _started(pid) != started


def _namespace() -> int:
    return Path("/proc/self/ns/pid").stat().st_ino


def _started(pid: int) -> int | None:
    """When a process started, in ticks since the machine did; None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])
