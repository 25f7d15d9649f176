"""Replaces what dies under `unsee serve`: a model's process, or the server with all of them.

Triton does neither. A dead process is noticed in the process table, not by a probe: a probe waits
behind a busy model's requests, so its silence proves nothing. A version is dead if no process is
there for it and the server, asked afterwards, calls it ready. Replacing the process is enough but
for `text_to_video`, after whose death clips are asked for: see `supervisor_doubt`. A process that
hangs (`supervisor_hang`) is killed and then replaced like any other; if its successor hangs as
well, it was not the process's fault, and the server is started again. Knows no command line and no
file of incidents.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, Protocol

from unsee.client.messages import MODEL
from unsee.core.errors import ServerError, UnseeError
from unsee.repository.records import Incident
from unsee.serving.supervisor.doubt import Doubt
from unsee.serving.supervisor.hang import HangWatch
from unsee.serving.supervisor.models import ServedModels
from unsee.serving.supervisor.patience import Patience, Tries
from unsee.serving.supervisor.questions import answers
from unsee.serving.supervisor.stubs import ModelVersion, Quiet, live_stubs

POLL_S = 0.2
STUCK_S = 3.0
"""A clip that nobody computes for so long will never be made."""
SIGNALS_FROM = 192
"""Exit codes from here on are those of a guard whose server a signal has ended: 256 - signal."""


class Supervised(Protocol):
    """What a supervisor needs of a `TritonServer`."""

    @property
    def settings(self) -> Any: ...
    @property
    def pid(self) -> int: ...
    def exit_code(self) -> int | None: ...
    def stop(self) -> None: ...
    def start(self) -> None: ...
    def wait_ready(self) -> None: ...


class Supervisor:
    """Watches one server that is ready and running.

    Args:
        server: a `TritonServer`.
        note: is told every incident once its outcome is known.
    """

    def __init__(
        self,
        server: Supervised,
        note: Callable[[Incident], None],
        patience: Patience | None = None,
    ) -> None:
        settings = server.settings
        self._server = server
        self._note = note
        self._patience = patience or Patience()
        self._models = ServedModels(settings.grpc_url, settings.repository_dir)
        self._restarts = Tries(self._patience)
        self._repairs: dict[ModelVersion, Tries] = {}
        self._known: set[ModelVersion] = set()
        self._settled: dict[int, ModelVersion] = {}
        self._doubt: tuple[Doubt, Quiet] | None = None
        self._hangs = HangWatch(self._answers, self._patience.hang_s)
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
            if self._patience.hang_s and self._end_hung(alive):
                return
            self._look_for_dead(alive)

    def _answers(self, version: ModelVersion) -> bool:
        return answers(self._server.settings.grpc_url, version, self._patience.hang_s)

    def _end_hung(self, alive: dict[int, ModelVersion]) -> bool:
        """Kill what hangs, so that the next look finds it dead; returns whether anything did."""
        hung, now = self._hangs.hung(alive), time.monotonic()
        for pid, version in hung.items():
            before = self._hung.get(version, -float("inf"))
            if now - before < self._patience.window_s:
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
            dead = (self._models.ready() - set(alive.values())) & self._known
        except ServerError:
            return  # it is starting, ending or busy: the next look will tell
        for version in sorted(dead):  # encoders and text_to_video before the large graphs
            self._repair(version)
        if not dead:
            self._settled = alive

    def _is_stuck(self) -> bool:
        if self._doubt is None:
            return False
        doubt, quiet = self._doubt
        if doubt.is_over():
            self._doubt = None
            return False
        return quiet.seconds() > STUCK_S

    def _repair(self, version: ModelVersion) -> None:
        tries = self._repairs.setdefault(version, Tries(self._patience))
        noticed = time.monotonic()
        if tries.wait_s(noticed) > 0:
            return
        tries.tried(noticed)
        failure = "no process has come up"
        try:
            self._models.reload(version)
        except ServerError as error:
            failure = str(error)
        alive = version in live_stubs(self._server.pid).values()
        if alive and version.model == MODEL:
            settings = self._server.settings
            doubt = Doubt(settings.grpc_url, settings.repository_dir)
            self._doubt = doubt, Quiet(self._server.pid)
        outcome = "it has been replaced" if alive else f"it cannot be replaced: {failure}"
        how = self._how_it_died(version)
        if alive:
            self._killed.discard(version)
        self._tell(
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
        return f"gave no answer and did nothing for {self._patience.hang_s:g} s and was killed"

    def _restart(self, reason: str) -> None:
        """Start the server again, as often as need be."""
        noticed, self._doubt = time.monotonic(), None
        log = keep_log(self._server.settings.log_path)
        while self._restarts.count(time.monotonic()) < self._patience.max_restarts:
            time.sleep(self._restarts.wait_s(time.monotonic()))
            self._restarts.tried(time.monotonic())
            try:
                self._server.stop()
                self._server.start()
                self._server.wait_ready()
            except (UnseeError, OSError) as error:
                failure = str(error).partition("\n")[0]
                self._tell(noticed, f"{reason}; it does not start again: {failure}", repaired=False)
                continue
            self._settled = {}
            self._tell(noticed, f"{reason} and was started again; see {log}", repaired=True)
            return
        raise ServerError(
            f"{reason} and has been started again {self._patience.max_restarts} times in "
            f"{self._patience.window_s:g} s, which is the limit; see {log}"
        )

    def _tell(self, noticed: float, what: str, *, repaired: bool, **of_model: Any) -> None:
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
