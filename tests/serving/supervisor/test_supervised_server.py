"""`unsee serve` under load while its processes are killed and while it is asked to stop."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from serving_fakes import write_fake_repository
from unsee.client.client import Client
from unsee.core.errors import DeadlineExceeded, ServerError
from unsee.repository.ledger import last_incidents as last
from unsee.serving.server.triton import ServerSettings
from unsee.serving.supervisor.processes import live_stubs
from unsee.triton.server import ModelVersion

pytestmark = pytest.mark.triton

PATIENCE_S = 60.0
DEADLINE_S = 8.0
STEPS = 12
MODELS = ["prompt_encoder", "text_encoder", "text_to_video", "vae_decoder", "video_denoiser"]
SHORT = ("prompt_encoder", "text_encoder", "vae_decoder")
"""What a clip is in for so short a time that none may have been there."""
HANGS = "--hang-timeout=3"


class Serving:
    """A process of `unsee serve` on a repository of its own."""

    def __init__(self, folder, *options, unet_work=4, change=lambda repository: None):
        self.repository, self._stderr = folder / "repository", folder / "stderr"
        self._read, self._incidents = 0, 0
        write_fake_repository(self.repository, unet_work=unet_work)
        shutil.rmtree(self.repository / "policy_family" / "3")  # which is not offered
        change(self.repository)
        settings = ServerSettings.on_free_ports(self.repository, folder / "tritonserver.log")
        self.url = settings.grpc_url
        command = [sys.executable, "-m", "unsee.cli.main", "serve", "--threads=1"]
        command += ["--repository", str(self.repository), "--log", str(settings.log_path)]
        command += ["--ready-timeout=300"]
        command += [f"--{name}-port={port}" for name, port in settings.ports.items()]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        with self._stderr.open("w") as stderr:
            pipes = {"stdout": subprocess.PIPE, "stderr": stderr, "text": True}
            self.process = subprocess.Popen([*command, *options], env=environment, **pipes)
        assert self.process.stdout.readline().startswith("ready: ")

    def told(self):
        """What it has said on stderr since this was last asked."""
        said = self._stderr.read_text()
        self._read, before = len(said), self._read
        return said[before:]

    def incidents(self):
        """Those since this was last asked."""
        found = last(self.repository, 99)  # the newest first
        self._incidents, before = len(found), self._incidents
        return found[: len(found) - before]

    def guard(self):
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        with open(children) as file:  # noqa: PTH123
            return int(file.read().split()[0])

    def stub(self, model):
        stubs = live_stubs(self.guard())
        return next(pid for pid, version in stubs.items() if version == ModelVersion(model, 1))

    def kill_server(self):
        guard = self.guard()
        with open(f"/proc/{guard}/task/{guard}/children") as file:  # noqa: PTH123
            os.kill(int(file.read().split()[0]), signal.SIGKILL)

    def stop(self):
        """Its last words on stdout."""
        self.process.terminate()
        return self.process.communicate(timeout=PATIENCE_S)[0]

    def kill(self):
        self.process.kill()
        self.process.communicate()


class Callers:
    """Threads that ask for clips until told to stop; every ending is noted with its seconds.

    `broken` are the errors of streams that had begun.
    """

    def __init__(self, url, count, deadline_s):
        self.endings = []
        self.broken = []
        self.stopped = threading.Event()
        self._deadline_s = deadline_s
        self._threads = [
            threading.Thread(target=self._ask, args=(url,), daemon=True) for _ in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def _ask(self, url):
        with Client(url, timeout_s=self._deadline_s, retries=0) as client:
            while not self.stopped.is_set():
                started, error, begun = time.monotonic(), None, False
                try:
                    for _ in client.stream("a cat", policy="family", num_inference_steps=STEPS):
                        begun = True
                except ServerError as caught:
                    error = caught
                    self.broken += [error] if begun else []
                    time.sleep(0.1)
                self.endings.append((time.monotonic() - started, error))

    def stop(self):
        """Everybody has come to an end, within the deadline."""
        self.stopped.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        assert max(seconds for seconds, _ in self.endings) < self._deadline_s + 4.0
        return [error for _, error in self.endings if error is not None]


@pytest.fixture
def serving(tmp_path):
    started = []

    def start(*options, **changes):
        started.append(Serving(tmp_path, *options, **changes))
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Gives the process with these options that the tests before have left running."""
    running = {}

    def get(*options):
        if options not in running or running[options].process.poll() is not None:
            running[options] = Serving(tmp_path_factory.mktemp("serving"), *options)
        return running[options]

    yield get
    for each in running.values():
        each.kill()


@pytest.fixture
def call():
    """Starts so many callers, who have been at it for a while when it returns."""
    started = []

    def start(url, count, deadline_s=DEADLINE_S):
        started.append(Callers(url, count, deadline_s))
        time.sleep(1.0)
        return started[-1]

    yield start
    for callers in started:
        callers.stopped.set()


def wait_for_a_clip(url):
    """Returns when a clip is made again."""
    started, last_error = time.monotonic(), None
    with Client(url, timeout_s=5.0) as client:
        while time.monotonic() - started < PATIENCE_S:
            try:
                client.generate("a cat", policy="family", num_inference_steps=1)
                return
            except ServerError as error:
                last_error = error
                time.sleep(0.05)
    pytest.fail(f"no clip in {PATIENCE_S} s: {last_error}")


@pytest.mark.parametrize("model", MODELS)
def test_a_killed_model_process_is_replaced_under_load(kept, call, model):
    running = kept()
    callers = call(running.url, 3, deadline_s=5.0)
    others = live_stubs(running.guard())
    killed = running.stub(model)
    os.kill(killed, signal.SIGKILL)
    wait_for_a_clip(running.url)
    stubs = live_stubs(running.guard())
    errors = callers.stop()
    if model not in SHORT:
        assert errors, "what was in the dead process is lost"
    assert sorted(stubs.values()) == sorted(others.values())
    assert others.keys() - stubs.keys() == {killed}, "no other process was touched"
    (incident,) = running.incidents()
    assert (incident.model, incident.version, incident.outcome) == (model, 1, "repaired")
    told = running.told()
    assert told.count("\n") == 1
    assert f"the process of {model}, version 1 died; it has been replaced" in told


def test_a_killed_server_is_started_again_under_load(kept, call):
    running = kept()
    callers = call(running.url, 3)
    running.kill_server()
    wait_for_a_clip(running.url)
    assert callers.stop()
    (incident,) = running.incidents()
    assert (incident.kind, incident.outcome) == ("server", "repaired")
    assert "tritonserver was ended by SIGKILL and was started again" in incident.what
    assert incident.what in running.told()


def test_sigterm_under_load_fails_no_stream_that_has_begun(kept, call):
    running = kept()
    callers = call(running.url, 6)
    output = running.stop()
    errors = callers.stop()
    assert (running.process.returncode, output, running.told()) == (0, "stopped\n", "")
    assert errors, "new requests are refused"
    assert callers.broken == []
    refusals = ("is stopping or changing its models", "no server answers", "was cancelled before")
    assert [e for e in errors if not any(text in str(e) for text in refusals)] == []


@pytest.mark.parametrize("model", ["text_to_video", "prompt_encoder", "video_denoiser"])
def test_a_stopped_model_process_is_killed_and_replaced(kept, call, model):
    running = kept(HANGS)
    callers = call(running.url, 2, deadline_s=5.0)
    stopped = running.stub(model)
    os.kill(stopped, signal.SIGSTOP)
    deadline = time.monotonic() + PATIENCE_S
    while not (incidents := running.incidents()) and time.monotonic() < deadline:
        time.sleep(0.1)
    wait_for_a_clip(running.url)
    errors = callers.stop()
    assert errors
    (incident,) = [*incidents, *running.incidents()]
    assert (incident.model, incident.version, incident.outcome) == (model, 1, "repaired")
    assert "gave no answer and did nothing for 3 s and was killed; it has" in incident.what
    assert stopped not in live_stubs(running.guard())


def test_a_process_that_hangs_while_nobody_asks_for_clips_is_noticed_by_the_next(kept):
    running = kept(HANGS)  # one that hangs twice within minutes costs the server a start
    wait_for_a_clip(running.url)
    os.kill(running.stub("vae_decoder"), signal.SIGSTOP)
    wait_for_a_clip(running.url)
    (incident,) = running.incidents()
    assert incident.model == "vae_decoder"
    assert running.stop() == "stopped\n"


def test_a_process_that_waits_for_something_that_never_comes_is_replaced(serving):
    """Triton calls such a process healthy."""
    running = serving(HANGS, change=wait_for_ever_if_asked_to)
    wait_for_a_clip(running.url)
    with Client(running.url, retries=0) as client, pytest.raises(DeadlineExceeded):
        client.generate("hang", policy="family", timeout_s=1.0)
    wait_for_a_clip(running.url)
    (incident,) = running.incidents()
    assert (incident.model, incident.outcome) == ("text_to_video", "repaired")
    assert "gave no answer and did nothing for 3 s" in incident.what


def wait_for_ever_if_asked_to(repository):
    file = repository / "text_to_video" / "1" / "model.py"
    code, answer = file.read_text(), "        return parse_request("
    assert code.count(answer) == 1
    block = "        import time\n        if b'hang' in tensors['prompt']: time.sleep(3600)\n"
    file.write_text(code.replace(answer, block + answer))


def test_a_busy_model_is_left_alone_however_long_its_steps_take(serving, call):
    running = serving(HANGS, unet_work=800)
    callers = call(running.url, 4, deadline_s=7.0)
    time.sleep(6.0)
    callers.stop()
    assert running.incidents() == []


def test_without_supervision_a_killed_server_ends_the_command(serving):
    running = serving("--no-supervise")
    running.kill_server()
    assert running.process.wait(PATIENCE_S) == 3
    assert running.told().startswith("error: tritonserver ended by itself")


def test_a_drain_ends_at_its_timeout(serving, call):
    running = serving("--drain-timeout=0.05")
    callers = call(running.url, 6)
    started = time.monotonic()
    output = running.stop()
    callers.stop()
    assert (running.process.returncode, output) == (0, "stopped\n")
    assert "warning: clips were still being made after 0.05 s" in running.told()
    assert time.monotonic() - started < PATIENCE_S / 2
