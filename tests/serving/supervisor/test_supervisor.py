"""The supervisor with a process table and a server that only pretend."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unsee.core.errors import InputError, ServerError, ServerUnreachable
from unsee.serving.supervisor import supervisor
from unsee.serving.supervisor.processes import STUB, Quiet, live_stubs
from unsee.serving.supervisor.supervisor import RepairLimits, Supervisor, Tries, keep_log
from unsee.triton.server import ModelVersion, VersionState

UNET, ENCODER = ModelVersion("video_denoiser", 1), ModelVersion("text_encoder", 1)


class FakeWorld:
    """A process table, a model index and a clock, which a test changes as it likes."""

    def __init__(self, tmp_path, monkeypatch):
        self.now = 1000.0
        self.processes = {11: UNET, 12: ENCODER}
        self.ready = {UNET, ENCODER}
        self.code = None
        self.failure = None
        self.reloads, self.starts, self.notes = [], [], []
        self.pid = 7
        log_path = tmp_path / "tritonserver.log"
        log_path.write_text("its last words")
        self.settings = SimpleNamespace(
            grpc_url="127.0.0.1:1", repository_dir=tmp_path, log_path=log_path
        )
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep)
        monkeypatch.setattr(supervisor, "time", clock)
        monkeypatch.setattr(supervisor, "live_stubs", lambda session: dict(self.processes))
        triton = SimpleNamespace(index=self.index)
        monkeypatch.setattr(supervisor, "Server", lambda url: triton)
        monkeypatch.setattr(supervisor, "reload", self.reload)
        self.answered, self.quiet_s, self.trials = True, 0.0, 0
        monkeypatch.setattr(supervisor, "TrialClip", self.trial)
        monkeypatch.setattr(
            supervisor, "Quiet", lambda session: SimpleNamespace(seconds=lambda: self.quiet_s)
        )
        self.hung = {}
        watch = SimpleNamespace(
            hung=lambda alive: {p: v for p, v in self.hung.items() if p in alive}
        )
        monkeypatch.setattr(supervisor, "HangWatch", lambda ask, hang_s: watch)
        monkeypatch.setattr(supervisor.os, "kill", self.killed)
        self.supervisor = Supervisor(self, self.notes.append, RepairLimits(max_restarts=3))

    def index(self):
        if isinstance(self.ready, Exception):
            raise self.ready
        return dict.fromkeys(self.ready, VersionState.LOADED)

    def reload(self, server, repository_dir, version):
        self.reloads.append((self.now, version))
        if self.failure is not None:
            raise self.failure
        self.processes[max(self.processes, default=0) + 1] = version

    def trial(self, server):
        self.trials += 1
        return SimpleNamespace(is_over=lambda: self.answered)

    def sleep(self, seconds):
        self.now += seconds

    def exit_code(self):
        return self.code

    def stop(self):
        pass

    def start(self):
        self.starts.append(self.now)
        if self.failure is not None:
            raise self.failure

    def wait_ready(self):
        self.code = None

    def killed(self, pid, number):
        assert number == signal.SIGKILL
        self.kill(self.processes[pid])

    def kill(self, version):
        self.processes = {p: v for p, v in self.processes.items() if v != version}


@pytest.fixture
def world(tmp_path, monkeypatch):
    return FakeWorld(tmp_path, monkeypatch)


def test_all_alive_is_left_alone(world):
    for _ in range(5):
        world.supervisor.look()
    assert (world.reloads, world.notes) == ([], [])


def test_a_dead_version_is_replaced_alone_and_told_once(world):
    world.supervisor.look()
    world.kill(ENCODER)
    for _ in range(3):
        world.supervisor.look()
    assert [version for _, version in world.reloads] == [ENCODER]
    (incident,) = world.notes
    assert (incident.kind, incident.model, incident.version) == ("model", *vars(ENCODER).values())
    assert incident.outcome == "repaired"
    assert incident.what.startswith("the process of text_encoder, version 1 died")


@pytest.mark.parametrize("file", ["video_denoiser/1/export.json", "text_to_video/assets/base.json"])
def test_after_another_export_all_models_are_loaded_again_not_one(world, file):
    world.supervisor.look()
    written = world.settings.repository_dir / file
    written.parent.mkdir(parents=True)
    written.write_text("another")
    world.kill(ENCODER)
    world.supervisor.look()
    assert world.reloads == []
    assert len(world.starts) == 1
    (incident,) = world.notes
    assert (incident.kind, incident.outcome) == ("server", "repaired")
    assert "the process of text_encoder, version 1 after another export" in incident.what
    world.supervisor.look()
    assert [version for _, version in world.reloads] == [ENCODER], "it is this export's now"


def test_a_version_that_was_unloaded_is_not_dead(world):
    world.supervisor.look()
    world.kill(ENCODER)
    world.ready -= {ENCODER}
    world.supervisor.look()
    assert world.reloads == []


def test_a_version_that_never_had_a_process_is_not_judged(world):
    world.ready |= {ModelVersion("a_model_in_cpp", 1)}
    world.supervisor.look()
    assert world.reloads == []


def test_a_server_that_does_not_answer_is_asked_again(world):
    world.supervisor.look()
    world.kill(UNET)
    world.ready = ServerUnreachable("no server answers")
    world.supervisor.look()
    assert world.reloads == []
    world.ready = {UNET, ENCODER}
    world.supervisor.look()
    assert [version for _, version in world.reloads] == [UNET]


def test_a_version_that_cannot_be_replaced_is_tried_with_growing_waits(world):
    world.supervisor.look()
    world.kill(UNET)
    world.failure = ServerError("the server says: no memory")
    for _ in range(600):
        world.supervisor.look()
        world.sleep(0.1)
    times = [round(at - 1000.0) for at, _ in world.reloads]
    assert times == [0, 1, 3, 7, 15, 31]
    assert {incident.outcome for incident in world.notes} == {"failed"}
    assert "it cannot be replaced: the server says: no memory" in world.notes[0].what


def test_one_that_fails_does_not_keep_the_other_waiting(world):
    world.supervisor.look()
    world.processes = {}
    world.failure = ServerError("no memory")
    world.supervisor.look()
    assert {version for _, version in world.reloads} == {UNET, ENCODER}


def test_a_dead_server_is_started_again_and_its_log_is_kept(world):
    world.code = 256 - signal.SIGKILL
    world.supervisor.look()
    (incident,) = world.notes
    assert (incident.kind, incident.outcome) == ("server", "repaired")
    assert "was ended by SIGKILL and was started again" in incident.what
    kept = world.settings.log_path.with_name("tritonserver.log.1")
    assert kept.read_text() == "its last words"
    assert str(kept) in incident.what


def test_a_server_that_does_not_start_is_given_up_after_the_limit(world):
    world.code, world.failure = 1, InputError("cannot listen on 127.0.0.1:1\nmore")
    with pytest.raises(ServerError, match=r"ended by itself \(exit code 1\).* 3 times in 300 s"):
        world.supervisor.run()
    assert [at - 1000.0 for at in world.starts] == [0.0, 1.0, 3.0]
    assert all(i.what.endswith("again: cannot listen on 127.0.0.1:1") for i in world.notes)


def test_a_server_that_ends_again_and_again_is_given_up(world):
    for _ in range(3):
        world.code = 139
        world.supervisor.look()
    world.code = 139
    with pytest.raises(ServerError, match="which is the limit"):
        world.supervisor.look()
    assert len(world.starts) == 3


def test_a_server_that_ends_rarely_is_never_given_up(world):
    for _ in range(9):
        world.code = 1
        world.supervisor.look()
        world.sleep(200.0)
    assert {incident.outcome for incident in world.notes} == {"repaired"}


def kill_text_to_video(world):
    version = ModelVersion("text_to_video", 1)
    world.processes[13] = version
    world.ready.add(version)
    world.supervisor.look()
    world.kill(version)
    world.supervisor.look()


@pytest.mark.parametrize(("answered", "quiet_s"), [(True, 99.0), (False, 1.0)])
def test_a_server_that_makes_clips_or_is_busy_is_left_alone(world, answered, quiet_s):
    world.answered, world.quiet_s = answered, quiet_s
    kill_text_to_video(world)
    world.supervisor.look()
    assert (world.trials, world.starts) == (1, [])


def test_a_server_that_neither_answers_nor_works_is_started_again(world):
    world.answered, world.quiet_s = False, 99.0
    kill_text_to_video(world)
    world.supervisor.look()
    world.supervisor.look()
    assert len(world.starts) == 1
    assert "made no clips although every process was there" in world.notes[-1].what


def test_only_the_death_of_text_to_video_asks_for_clips(world):
    world.supervisor.look()
    world.kill(UNET)
    world.supervisor.look()
    assert world.trials == 0


def test_one_that_hangs_is_killed_and_replaced(world):
    world.supervisor.look()
    world.hung = {11: UNET}
    for _ in range(3):
        world.supervisor.look()
    assert [version for _, version in world.reloads] == [UNET]
    (incident,) = world.notes
    assert incident.what == (
        "the process of video_denoiser, version 1 gave no answer and did nothing for 30 s "
        "and was killed; it has been replaced"
    )
    world.kill(UNET)
    world.sleep(2.0)
    world.supervisor.look()
    assert "version 1 died; it has been replaced" in world.notes[-1].what


def test_if_the_next_one_hangs_too_the_server_is_started_again(world):
    world.supervisor.look()
    world.hung = {11: UNET}
    world.supervisor.look()
    world.supervisor.look()
    (successor,) = [pid for pid, version in world.processes.items() if version == UNET]
    world.hung = {successor: UNET}
    world.supervisor.look()
    assert len(world.starts) == 1
    assert "got no answer from video_denoiser, version 1 in a new process" in world.notes[-1].what


@given(st.lists(st.floats(0.0, 400.0), max_size=30))
def test_waits_grow_to_the_longest_and_end_with_the_window(gaps):
    limits = RepairLimits(window_s=300.0, first_wait_s=1.0, longest_wait_s=30.0)
    tries, now = Tries(limits), 0.0
    for gap in gaps:
        now += gap
        assert 0.0 <= tries.wait_s(now) <= limits.longest_wait_s
        tries.tried(now)
        now += tries.wait_s(now)
        assert tries.wait_s(now) == pytest.approx(0.0, abs=1e-6)
    assert tries.count(now + limits.window_s) == 0
    assert tries.wait_s(now + limits.window_s) == 0.0


@pytest.mark.process
def test_only_living_stubs_of_the_session_are_found(tmp_path):
    program = tmp_path / STUB
    program.symlink_to(sys.executable)
    code = "import time; print(flush=True); time.sleep(600)"
    folder = tmp_path / "video_denoiser" / "3"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(code)
    options = {"stdout": subprocess.PIPE, "start_new_session": True}
    with subprocess.Popen([program, folder / "model.py", "shm"], **options) as process:
        try:
            process.stdout.readline()
            expected = {process.pid: ModelVersion("video_denoiser", 3)}
            assert live_stubs(process.pid) == expected
            assert process.pid not in live_stubs(os.getsid(0))
        finally:
            process.kill()
        while b"Z" not in read_stat(process.pid):
            pass
        assert live_stubs(process.pid) == {}, "a dead one that nobody has reaped is not alive"


@pytest.mark.process
def test_stubs_are_quiet_until_one_computes(tmp_path):
    program = tmp_path / STUB
    program.symlink_to(sys.executable)
    folder = tmp_path / "video_denoiser" / "1"
    folder.mkdir(parents=True)
    code = "print(flush=True); input()\nwhile True: pass\n"
    (folder / "model.py").write_text(code)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [program, folder / "model.py"]
    with subprocess.Popen(command, start_new_session=True, **pipes) as process:
        try:
            process.stdout.readline()
            quiet = Quiet(process.pid)
            time.sleep(0.6)
            assert quiet.seconds() >= 0.6
            process.stdin.write(b"\n")
            process.stdin.flush()
            while quiet.seconds() >= 0.6:
                time.sleep(0.01)
        finally:
            process.kill()


def read_stat(pid):
    with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
        return file.read().rpartition(b")")[2]


def test_a_log_that_is_missing_is_not_kept(tmp_path):
    assert keep_log(tmp_path / "log") == tmp_path / "log.1"
    assert list(tmp_path.iterdir()) == []
