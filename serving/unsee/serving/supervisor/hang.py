"""Whether a model's process that lives still answers: which ones hang.

A probe's silence alone proves nothing, for it waits behind the model's other requests. So a process
counts as hung if a question stays without an answer for `patience_s` seconds in which the process
neither computes nor waits for a core or a disk, as every busy one does, however long its step takes
and however many others want the cores. One that computes for ever goes unnoticed. Knows processes
by their number, and how they are asked only as a function.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from unsee.serving.supervisor.stubs import BUSY_SHARE, Effort, ModelVersion, effort

LOOKS = 30
"""How often the processes are looked at within `patience_s` seconds."""
WORKING_S = 0.002
"""More than what an idle process computes within one look: about 0.00015 a second."""

Ask = Callable[[ModelVersion], bool]
"""Returns whether the process behind a version has answered; may take `patience_s` seconds."""


@dataclass
class _Process:
    """What is known of one process; seconds are those between looks, with pauses left out."""

    version: ModelVersion
    effort: Effort | None
    idle_s: float = 0.0
    silent_s: float = 0.0
    answered_s: float = -float("inf")
    work_seen: int = -1
    question: _Question | None = None


class _Question:
    """One call of `ask` in the background; `answered` is None while it lasts."""

    def __init__(self, ask: Ask, version: ModelVersion) -> None:
        self.answered: bool | None = None
        threading.Thread(target=self._ask, args=(ask, version), daemon=True).start()

    def _ask(self, ask: Ask, version: ModelVersion) -> None:
        self.answered = ask(version)


class HangWatch:
    """Asks processes that have been idle for a while, each again only after some of them worked."""

    def __init__(self, ask: Ask, patience_s: float) -> None:
        self._ask = ask
        self._patience_s = patience_s
        self._look_s = patience_s / LOOKS
        self._processes: dict[int, _Process] = {}
        self._looked_at = -float("inf")
        self._now_s = 0.0
        self._work = 0

    def hung(self, alive: Mapping[int, ModelVersion]) -> dict[int, ModelVersion]:
        """Those of the living processes that hang; looks no more than `LOOKS` times a patience."""
        now = time.monotonic()
        elapsed_s = now - self._looked_at
        if elapsed_s < self._look_s:
            return {}
        self._looked_at = now
        known = self._processes
        self._processes = {
            pid: known.get(pid) or _Process(version, effort(pid)) for pid, version in alive.items()
        }
        if elapsed_s > 5 * self._look_s:  # we were not running ourselves: nothing was seen
            self._forget_the_pause()
            return {}
        self._now_s += elapsed_s
        self._see_work(elapsed_s)
        for process in self._processes.values():
            self._question(process, elapsed_s)
        return {
            pid: process.version
            for pid, process in self._processes.items()
            if process.silent_s >= self._patience_s
        }

    def _forget_the_pause(self) -> None:
        for pid, process in self._processes.items():
            process.effort, process.idle_s, process.silent_s = effort(pid), 0.0, 0.0

    def _see_work(self, elapsed_s: float) -> None:
        """Note who was busy; what a question makes a process compute does not count as work."""
        asking = any(process.question is not None for process in self._processes.values())
        for pid, process in self._processes.items():
            before, process.effort = process.effort, effort(pid)
            process.idle_s += elapsed_s
            now = process.effort
            if now is None or now.since(before) > BUSY_SHARE * elapsed_s:
                process.idle_s = process.silent_s = 0.0
            if before is None or now is None or asking:
                continue
            if now.computed_s - before.computed_s > WORKING_S:
                self._work += 1

    def _question(self, process: _Process, elapsed_s: float) -> None:
        question = process.question
        if question is None:
            if self._is_due(process):
                process.question = _Question(self._ask, process.version)
            return
        if question.answered:
            process.question, process.silent_s = None, 0.0
            process.answered_s, process.work_seen = self._now_s, self._work
            return
        if process.idle_s:
            process.silent_s += elapsed_s
        if question.answered is False:
            process.question = _Question(self._ask, process.version)

    def _is_due(self, process: _Process) -> bool:
        rested_s = self._patience_s / 3
        return (
            process.idle_s >= rested_s
            and self._now_s - process.answered_s >= rested_s
            and process.work_seen != self._work
        )
