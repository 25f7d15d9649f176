"""Replaces what dies under `unsee serve`: a model's process, or the server with all of them.

Triton does neither. A dead process is noticed in the process table, not by a probe: a probe waits
behind a busy model's requests, so its silence proves nothing. A version is dead if no process is
there for it and the server, asked afterwards, calls it ready. Replacing the process is enough but
for those that call other models, after whose death a clip is asked for (`hang.TrialClip`). A
process that hangs (`hang.HangWatch`) is killed and then replaced like any other; if its successor
hangs as well, it was not the process's fault, and the server is started again.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from unsee.core.errors import ServerError, UnseeError
from unsee.repository.check import export_records
from unsee.repository.layout import PROMPT_ENCODER, TEXT_TO_VIDEO
from unsee.repository.records import Incident
from unsee.serving.server.triton import TritonServer
from unsee.serving.supervisor.hang import HangWatch, TrialClip
from unsee.serving.supervisor.processes import Quiet, live_stubs
from unsee.triton.reload import reload
from unsee.triton.server import ModelVersion, Server, VersionState

CALLERS = (PROMPT_ENCODER, TEXT_TO_VIDEO)
"""The models that call others."""
POLL_S = 0.2
STUCK_S = 3.0
"""A clip that nobody computes for so long will never be made."""
SIGNALS_FROM = 192
"""Exit codes from here on are those of a guard whose server a signal has ended: 256 - signal."""


@dataclass(frozen=True)
class RepairLimits:
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

    def __init__(self, limits: RepairLimits) -> None:
        self._limits = limits
        self._times: deque[float] = deque()

    def count(self, now: float) -> int:
        """How many tries lie within the window."""
        while self._times and self._times[0] <= now - self._limits.window_s:
            self._times.popleft()
        return len(self._times)

    def wait_s(self, now: float) -> float:
        """How long the next try has to wait."""
        tries = self.count(now)
        if not tries:
            return 0.0
        limits = self._limits
        wait_s = min(limits.first_wait_s * 2.0 ** (tries - 1), limits.longest_wait_s)
        return max(0.0, self._times[-1] + wait_s - now)

    def tried(self, now: float) -> None:
        """Note a try."""
        self._times.append(now)


class Supervisor:
    """Watches one server that is ready and running.

    Args:
        server: what is watched.
        note: called with each incident when its outcome is known.
        limits: how often and how soon repairs are tried again.
    """

    def __init__(
        self,
        server: TritonServer,
        note: Callable[[Incident], None],
        limits: RepairLimits | None = None,
    ) -> None:
        settings = server.settings
        self._server = server
        self._note = note
        self._limits = limits or RepairLimits()
        self._triton = Server(settings.grpc_url)
        self._exported = export_records(settings.repository_dir)
        self._restarts = Tries(self._limits)
        self._repairs: dict[ModelVersion, Tries] = {}
        self._known: set[ModelVersion] = set()
        self._settled: dict[int, ModelVersion] = {}
        self._trial: tuple[TrialClip, Quiet] | None = None
        self._hangs = HangWatch(self._answers, self._limits.hang_s)
        self._hung: dict[ModelVersion, float] = {}
        self._killed: set[ModelVersion] = set()

    def run(self) -> NoReturn:
        """Watch until the server cannot be kept running.

        Raises:
            ServerError: it ended too often; the message says where its log is.
        """
        while True:
            self.look()
            time.sleep(POLL_S)

    def look(self) -> None:
        """Look once, and replace what is dead; costs a millisecond when nothing has changed."""
        code = self._server.exit_code()
        if code is not None:
            self._restart(f"tritonserver {_ended(code)}")
        elif self._is_stuck():
            self._restart("tritonserver made no clips although every process was there")
        else:
            alive = live_stubs(self._server.pid)
            if self._limits.hang_s and self._end_hung(alive):
                return
            self._look_for_dead(alive)

    def _answers(self, version: ModelVersion) -> bool:
        return self._triton.answers(version, self._limits.hang_s)

    def _end_hung(self, alive: dict[int, ModelVersion]) -> bool:
        """Kill what hangs, so that the next look finds it dead; returns whether anything did."""
        hung, now = self._hangs.hung(alive), time.monotonic()
        for pid, version in hung.items():
            before = self._hung.get(version, -float("inf"))
            if now - before < self._limits.window_s:
                del self._hung[version]
                self._restart(f"tritonserver got no answer from {version} in a new process either")
                break
            self._hung[version] = now
            self._killed.add(version)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(hung)

    def _look_for_dead(self, alive: dict[int, ModelVersion]) -> None:
        if alive == self._settled:
            return
        self._known.update(alive.values())
        try:
            index = self._triton.index().items()
        except ServerError:
            return  # it is starting, ending or busy: the next look will tell
        ready = {version for version, state in index if state is VersionState.LOADED}
        dead = (ready - set(alive.values())) & self._known
        if dead and export_records(self._server.settings.repository_dir) != self._exported:
            lost = min(dead)  # a new process would serve the new export, all others the one before
            self._restart(f"tritonserver lost the process of {lost} after another export")
            return
        for version in sorted(dead):  # what is small before the large graphs
            self._repair(version)
        if not dead:
            self._settled = alive

    def _is_stuck(self) -> bool:
        if self._trial is None:
            return False
        clip, quiet = self._trial
        if clip.is_over():
            self._trial = None
            return False
        return quiet.seconds() > STUCK_S

    def _repair(self, version: ModelVersion) -> None:
        tries = self._repairs.setdefault(version, Tries(self._limits))
        noticed = time.monotonic()
        if tries.wait_s(noticed) > 0:
            return
        tries.tried(noticed)
        failure = "no process has come up"
        try:
            reload(self._triton, self._server.settings.repository_dir, version)
        except ServerError as error:
            failure = str(error)
        alive = version in live_stubs(self._server.pid).values()
        if alive and version.model in CALLERS:
            self._trial = TrialClip(self._triton), Quiet(self._server.pid)
        outcome = "it has been replaced" if alive else f"it cannot be replaced: {failure}"
        how = self._how_it_died(version)
        if alive:
            self._killed.discard(version)
        self._note_incident(
            noticed,
            f"the process of {version} {how}; {outcome}",
            repaired=alive,
            kind="model",
            model=version.model,
            version=version.version,
        )

    def _how_it_died(self, version: ModelVersion) -> str:
        if version not in self._killed:
            return "died"
        return f"gave no answer and did nothing for {self._limits.hang_s:g} s and was killed"

    def _restart(self, reason: str) -> None:
        """Start the server again, as often as need be."""
        noticed, self._trial = time.monotonic(), None
        log = keep_log(self._server.settings.log_path)
        while self._restarts.count(time.monotonic()) < self._limits.max_restarts:
            time.sleep(self._restarts.wait_s(time.monotonic()))
            self._restarts.tried(time.monotonic())
            try:
                self._server.stop()
                self._exported = export_records(self._server.settings.repository_dir)
                self._server.start()
                self._server.wait_ready()
            except (UnseeError, OSError) as error:
                failure = str(error).partition("\n")[0]
                self._note_incident(
                    noticed, f"{reason}; it does not start again: {failure}", repaired=False
                )
                continue
            self._settled = {}
            self._note_incident(
                noticed, f"{reason} and was started again; see {log}", repaired=True
            )
            return
        raise ServerError(
            f"{reason} and has been started again {self._limits.max_restarts} times in "
            f"{self._limits.window_s:g} s, which is the limit; see {log}"
        )

    def _note_incident(self, noticed: float, what: str, *, repaired: bool, **of_model: Any) -> None:
        self._note(
            Incident(
                server=self._server.settings.grpc_url,
                outcome="repaired" if repaired else "failed",
                seconds=round(time.monotonic() - noticed, 3),
                what=what,
                **({"kind": "server"} | of_model),
            )
        )


def keep_log(log_path: Path) -> Path:
    """Put the log of a dead server aside, over that of the one before; where it is then."""
    kept = log_path.with_name(f"{log_path.name}.1")
    if log_path.exists():
        log_path.replace(kept)
    return kept


def _ended(code: int) -> str:
    number = -code if code < 0 else 256 - code if code > SIGNALS_FROM else 0
    try:
        return f"was ended by {signal.Signals(number).name}"
    except ValueError:
        return f"ended by itself (exit code {code})"
