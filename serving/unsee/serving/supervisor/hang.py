"""What lives and does not work: model processes that hang, and a server that makes no clips.

A process that does not answer may only be busy, for a question waits behind the model's other
requests. So a process counts as hung if a question stays without an answer for `hang_s` seconds in
which the process neither computes nor waits for a core or a disk, as every busy one does, however
long its step takes and however many others want the cores. One that computes for ever goes
unnoticed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import grpc

from unsee.client.messages import build_request
from unsee.core.policy import BASE_POLICY
from unsee.serving.supervisor.processes import BUSY_SHARE, Effort, effort
from unsee.triton.server import ModelVersion, Server

LOOKS = 30
"""How often the processes are looked at within `hang_s` seconds."""
PAUSE_S = 0.5
"""Looks that are further apart than 5 wanted ones, and than this, had a pause between them."""
WORKING_S = 0.002
"""More than what an idle process computes within one look: about 0.00015 a second."""
LONGEST_CLIP_S = 600.0
SHORT = {"prompt": "x", "policy": BASE_POLICY, "num_inference_steps": 1, "guidance_scale": 1.0}

Ask = Callable[[ModelVersion], bool]
"""Returns whether the process behind a version has answered; may take `hang_s` seconds."""


@dataclass
class _Process:
    """What is known of one process; times are those of the watch's clock.

    Args:
        busy_at: when it last worked or waited for the machine, or when it was first seen.
        asked_at: when the question was asked that it has not answered yet.
    """

    version: ModelVersion
    effort: Effort | None
    busy_at: float
    asked_at: float = 0.0
    answered_at: float = -float("inf")
    question: _Question | None = None


class _Question:
    """One call of `ask` in the background; `answered` is None while it lasts."""

    def __init__(self, ask: Ask, version: ModelVersion) -> None:
        self.answered: bool | None = None
        threading.Thread(target=self._ask, args=(ask, version), daemon=True).start()

    def _ask(self, ask: Ask, version: ModelVersion) -> None:
        self.answered = ask(version)


class HangWatch:
    """Asks processes that have been idle for a while, each again only after some of them worked.

    Its clock stands still while this process is not running itself: nothing was seen then.
    """

    def __init__(self, ask: Ask, hang_s: float) -> None:
        self._ask = ask
        self._hang_s = hang_s
        self._processes: dict[int, _Process] = {}
        self._looked_at = -float("inf")
        self._now = 0.0
        self._worked_at = 0.0

    def hung(self, alive: Mapping[int, ModelVersion]) -> dict[int, ModelVersion]:
        """Those of the living processes that hang; looks no more than `LOOKS` times in `hang_s`."""
        elapsed_s, look_s = time.monotonic() - self._looked_at, self._hang_s / LOOKS
        if elapsed_s < look_s:
            return {}
        self._looked_at = time.monotonic()
        known = self._processes
        self._processes = {
            pid: known.get(pid) or _Process(version, effort(pid), self._now)
            for pid, version in alive.items()
        }
        if elapsed_s > max(5 * look_s, PAUSE_S):
            for pid, process in self._processes.items():
                process.effort, process.busy_at = effort(pid), self._now
            return {}
        self._now += elapsed_s
        self._see_work(elapsed_s)
        for process in self._processes.values():
            self._question(process)
        return {pid: p.version for pid, p in self._processes.items() if self._hangs(p)}

    def _see_work(self, elapsed_s: float) -> None:
        """Note who was busy; what a question makes a process compute does not count as work."""
        asking = any(process.question is not None for process in self._processes.values())
        for pid, process in self._processes.items():
            before, process.effort = process.effort, effort(pid)
            now = process.effort
            if now is None or now.since(before) > BUSY_SHARE * elapsed_s:
                process.busy_at = self._now
            if before is None or now is None or asking:
                continue
            if now.computed_s - before.computed_s > WORKING_S:
                self._worked_at = self._now

    def _question(self, process: _Process) -> None:
        question = process.question
        if question is None:
            rested_at = self._now - self._hang_s / 3
            rested = process.busy_at <= rested_at and process.answered_at <= rested_at
            if rested and self._worked_at > process.answered_at:
                process.question = _Question(self._ask, process.version)
                process.asked_at = self._now
        elif question.answered:
            process.question, process.answered_at = None, self._now
        elif question.answered is False:
            process.question = _Question(self._ask, process.version)

    def _hangs(self, process: _Process) -> bool:
        silent_s = self._now - max(process.asked_at, process.busy_at)
        return process.question is not None and silent_s >= self._hang_s


class TrialClip:
    """Asks a server in the background for a clip of one step.

    Triton exchanges tensors with a model's process in shared memory, under locks that a killed
    process may hold for ever. A thread of Triton that waits for such a lock no longer serves its
    own model, the process of which is alive and well. Only a clip can tell, and only if nothing is
    being computed meanwhile: else the clip just waits for its turn. An error is an answer too.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._asking = threading.Thread(target=self._ask, daemon=True)
        self._asking.start()

    def is_over(self) -> bool:
        """Whether it has been answered."""
        return not self._asking.is_alive()

    def _ask(self) -> None:
        with suppress(grpc.RpcError):
            list(self._server.stream(build_request(SHORT), LONGEST_CLIP_S))
