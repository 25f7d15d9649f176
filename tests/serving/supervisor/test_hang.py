"""Which processes count as hung: made-up processes on a made-up clock, and a real one."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from unsee.serving.supervisor import hang, supervisor
from unsee.serving.supervisor.hang import HangWatch
from unsee.serving.supervisor.processes import Effort, effort
from unsee.triton.server import ModelVersion

UNET, VAE = ModelVersion("video_denoiser", 1), ModelVersion("vae_decoder", 1)
ALIVE = {1: UNET, 2: VAE}
PATIENCE_S = 30.0


class World:
    """Two processes; `doing` says what each does, `deaf` which give no answer."""

    def __init__(self, monkeypatch, patience_s=PATIENCE_S):
        self.now = 0.0
        self.doing, self.deaf, self.asked = {1: "idle", 2: "idle"}, set(), []
        self.done = {pid: [0.0, 0.0] for pid in ALIVE}
        clock = SimpleNamespace(monotonic=lambda: self.now)
        monkeypatch.setattr(hang, "time", clock)
        monkeypatch.setattr(hang, "effort", self.effort)
        monkeypatch.setattr(hang, "_Question", self.question)
        self.watch = HangWatch(lambda version: True, patience_s)

    def effort(self, pid):
        if self.doing[pid] == "gone":
            return None
        return Effort(*self.done[pid], self.doing[pid] == "on disk")

    def question(self, ask, version):
        self.asked.append((self.now, version))
        pid = next(pid for pid, known in ALIVE.items() if known == version)
        return SimpleNamespace(answered=None if pid in self.deaf else True)

    def pass_by(self, seconds):
        """What was found hung while the time passed."""
        found = {}
        for _ in range(round(seconds)):
            self.now += 1.0
            for pid, what in self.doing.items():
                self.done[pid][0] += {"works": 1.0, "answers": 0.01}.get(what, 0.0001)
                self.done[pid][1] += {"starved": 1.0}.get(what, 0.002)
            found |= self.watch.hung(ALIVE)
        return found


@pytest.fixture
def world(monkeypatch):
    return World(monkeypatch)


def work_a_little(world, pid=1):
    world.doing[pid] = "works"
    world.pass_by(2)
    world.doing[pid] = "idle"


def test_one_that_does_not_answer_and_does_nothing_hangs(world):
    work_a_little(world)
    world.deaf.add(1)
    assert world.pass_by(PATIENCE_S) == {}
    assert world.pass_by(PATIENCE_S) == {1: UNET}


def test_a_request_of_a_few_milliseconds_is_enough_to_make_it_noticed(world):
    work_a_little(world)
    world.pass_by(60)
    world.deaf.add(1)
    world.doing[2] = "answers"
    world.pass_by(1)
    world.doing[2] = "idle"
    assert world.pass_by(2 * PATIENCE_S) == {1: UNET}


@pytest.mark.parametrize("doing", ["works", "starved", "on disk", "gone"])
def test_silence_of_one_that_works_or_waits_for_the_machine_proves_nothing(world, doing):
    world.deaf = {1, 2}
    world.doing = {1: doing, 2: doing}
    assert world.pass_by(20 * PATIENCE_S) == {}


def test_one_that_begins_to_work_late_is_not_hung(world):
    work_a_little(world)
    world.deaf.add(1)
    for _ in range(20):
        assert world.pass_by(0.9 * PATIENCE_S) == {}
        work_a_little(world)


def test_while_nobody_works_nobody_is_asked_twice(world):
    work_a_little(world)
    world.pass_by(20 * PATIENCE_S)
    assert sorted(version for _, version in world.asked) == [VAE, UNET]


def test_while_others_work_the_idle_are_asked_now_and_then(world):
    world.doing[1] = "works"
    world.pass_by(10 * PATIENCE_S)
    assert {version for _, version in world.asked} == {VAE}
    times = [at for at, _ in world.asked]
    assert len(times) >= 10
    assert min(b - a for a, b in itertools.pairwise(times)) >= PATIENCE_S / 3


def test_a_pause_of_the_whole_machine_does_not_count(world):
    work_a_little(world)
    world.deaf.add(1)
    world.pass_by(0.9 * PATIENCE_S)
    world.now += 3600.0
    assert world.pass_by(0.9 * PATIENCE_S) == {}


def test_a_patience_of_a_second_is_kept_though_looks_are_a_fifth_apart(monkeypatch):
    world = World(monkeypatch, patience_s=1.0)
    world.deaf.add(1)
    found = {}
    for _ in range(20):
        world.now += supervisor.POLL_S
        world.done[2][0] += 0.01  # so that there is something to ask after
        found |= world.watch.hung(ALIVE)
    assert found == {1: UNET}


def test_one_that_refuses_the_question_in_tritons_words_is_asked_again(monkeypatch):
    answers, clock = iter([False, False, True]), SimpleNamespace(now=0.0)
    monkeypatch.setattr(hang, "effort", lambda pid: Effort(clock.now * 1e-4, 0, False))
    monkeypatch.setattr(hang, "time", SimpleNamespace(monotonic=lambda: clock.now))
    asked = threading.Semaphore(0)

    def ask(version):
        asked.release()
        return next(answers)

    watch = HangWatch(ask, PATIENCE_S)
    for _ in range(3):
        while not asked.acquire(blocking=False):
            clock.now += 1.0
            assert watch.hung({1: UNET}) == {}
            time.sleep(0.01)


@pytest.mark.process
def test_effort_grows_with_work_and_not_while_stopped():
    code = "print(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            before = effort(process.pid)
            time.sleep(0.3)
            after = effort(process.pid)
            wanted_s = after.computed_s + after.waited_s - before.computed_s - before.waited_s
            assert wanted_s > 0.15
            os.kill(process.pid, signal.SIGSTOP)
            os.waitpid(process.pid, os.WUNTRACED)
            before = effort(process.pid)
            time.sleep(0.2)
            assert effort(process.pid) == before
        finally:
            process.kill()
    assert effort(process.pid) is None
