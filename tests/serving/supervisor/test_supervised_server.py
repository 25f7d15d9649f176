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
from unsee.serving.supervisor.processes import live_stubs
from unsee.triton.server import ModelVersion

pytestmark = pytest.mark.triton

PATIENCE_S = 60.0
DEADLINE_S = 8.0
STEPS = 12
MODELS = ["prompt_encoder", "text_encoder", "text_to_video", "vae_decoder", "video_denoiser"]
SHORT = ("prompt_encoder", "text_encoder", "vae_decoder")
"""What a clip is in for so short a time that none may have been there."""


class Serving:
    """A process of `unsee serve` on a repository of its own."""

    def __init__(self, folder, settings, *options, unet_work=4, change=lambda repository: None):
        self.settings, self.repository = settings, folder / "repository"
        write_fake_repository(self.repository, unet_work=unet_work)
        shutil.rmtree(self.repository / "policy_family" / "3")  # which is not offered
        change(self.repository)
        command = [sys.executable, "-m", "unsee.cli.main", "serve", "--threads=1"]
        command += ["--repository", str(self.repository), "--log", str(settings.log_path)]
        command += [f"--{name}-port={port}" for name, port in settings.ports.items()]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([*command, *options], env=environment, **pipes)
        assert self.process.stdout.readline().startswith("ready: ")

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

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.communicate(timeout=PATIENCE_S)


class Callers:
    """Threads that ask for clips until told to stop; every ending is noted with its seconds.

    `broken` are the errors of streams that had begun.
    """

    def __init__(self, url, count):
        self.endings = []
        self.broken = []
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(url,), daemon=True) for _ in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def _ask(self, url):
        with Client(url, timeout_s=DEADLINE_S, retries=0) as client:
            while not self._stopped.is_set():
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
        self._stopped.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        assert max(seconds for seconds, _ in self.endings) < DEADLINE_S + 4.0
        return [error for _, error in self.endings if error is not None]


@pytest.fixture
def serving(tmp_path, settings):
    started = []

    def start(*options, **changes):
        started.append(Serving(tmp_path, settings, *options, **changes))
        return started[-1]

    yield start
    for serving in started:
        serving.process.kill()
        serving.process.communicate()


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
def test_a_killed_model_process_is_replaced_under_load(serving, model):
    running = serving()
    callers = Callers(running.settings.grpc_url, 3)
    time.sleep(1.0)
    others = live_stubs(running.guard())
    killed = running.stub(model)
    os.kill(killed, signal.SIGKILL)
    wait_for_a_clip(running.settings.grpc_url)
    stubs = live_stubs(running.guard())
    errors = callers.stop()
    if model not in SHORT:
        assert errors, "what was in the dead process is lost"
    assert sorted(stubs.values()) == sorted(others.values())
    assert others.keys() - stubs.keys() == {killed}, "no other process was touched"
    (incident,) = last(running.repository, 9)
    assert (incident.model, incident.version, incident.outcome) == (model, 1, "repaired")
    output, told = running.stop()
    assert output == "stopped\n"
    assert told.count("\n") == 1
    assert f"the process of {model}, version 1 died; it has been replaced" in told


@pytest.mark.parametrize("model", ["text_to_video", "prompt_encoder", "video_denoiser"])
def test_a_stopped_model_process_is_killed_and_replaced(serving, model):
    running = serving("--hang-timeout=3")
    callers = Callers(running.settings.grpc_url, 2)
    time.sleep(1.0)
    stopped = running.stub(model)
    os.kill(stopped, signal.SIGSTOP)
    deadline = time.monotonic() + PATIENCE_S
    while not last(running.repository, 1) and time.monotonic() < deadline:
        time.sleep(0.1)
    wait_for_a_clip(running.settings.grpc_url)
    errors = callers.stop()
    assert errors
    (incident,) = last(running.repository, 9)
    assert (incident.model, incident.version, incident.outcome) == (model, 1, "repaired")
    assert "gave no answer and did nothing for 3 s and was killed; it has" in incident.what
    assert stopped not in live_stubs(running.guard())
    assert running.stop()[0] == "stopped\n"


def test_a_process_that_hangs_while_nobody_asks_for_clips_is_noticed_by_the_next(serving):
    running = serving("--hang-timeout=3")
    wait_for_a_clip(running.settings.grpc_url)
    os.kill(running.stub("video_denoiser"), signal.SIGSTOP)
    wait_for_a_clip(running.settings.grpc_url)
    (incident,) = last(running.repository, 9)
    assert incident.model == "video_denoiser"


def test_a_process_that_waits_for_something_that_never_comes_is_replaced(serving):
    """Triton calls such a process healthy."""
    running = serving("--hang-timeout=3", change=wait_for_ever_if_asked_to)
    wait_for_a_clip(running.settings.grpc_url)
    with Client(running.settings.grpc_url, retries=0) as client, pytest.raises(DeadlineExceeded):
        client.generate("hang", policy="family", timeout_s=DEADLINE_S)
    wait_for_a_clip(running.settings.grpc_url)
    (incident,) = last(running.repository, 9)
    assert (incident.model, incident.outcome) == ("text_to_video", "repaired")
    assert "gave no answer and did nothing for 3 s" in incident.what


def wait_for_ever_if_asked_to(repository):
    file = repository / "text_to_video" / "1" / "model.py"
    code, answer = file.read_text(), "        return parse_request("
    assert code.count(answer) == 1
    block = "        import time\n        if b'hang' in tensors['prompt']: time.sleep(3600)\n"
    file.write_text(code.replace(answer, block + answer))


def test_a_busy_model_is_left_alone_however_long_its_steps_take(serving):
    running = serving("--hang-timeout=1", unet_work=400)
    callers = Callers(running.settings.grpc_url, 4)
    time.sleep(DEADLINE_S)
    callers.stop()
    assert last(running.repository, 9) == []


def test_a_killed_server_is_started_again_under_load(serving):
    running = serving()
    callers = Callers(running.settings.grpc_url, 3)
    time.sleep(1.0)
    running.kill_server()
    wait_for_a_clip(running.settings.grpc_url)
    assert callers.stop()
    (incident,) = last(running.repository, 9)
    assert (incident.kind, incident.outcome) == ("server", "repaired")
    assert "tritonserver was ended by SIGKILL and was started again" in incident.what
    assert running.stop()[0] == "stopped\n"


def test_without_supervision_a_killed_server_ends_the_command(serving):
    running = serving("--no-supervise")
    running.kill_server()
    _, told = running.process.communicate(timeout=PATIENCE_S)
    assert running.process.returncode == 3
    assert told.startswith("error: tritonserver ended by itself")


def test_sigterm_under_load_fails_no_stream_that_has_begun(serving):
    running = serving()
    callers = Callers(running.settings.grpc_url, 6)
    time.sleep(1.0)
    output, told = running.stop()
    errors = callers.stop()
    assert (running.process.returncode, output, told) == (0, "stopped\n", "")
    assert errors, "new requests are refused"
    assert callers.broken == []
    refusals = ("is stopping or changing its models", "no server answers", "was cancelled before")
    assert [e for e in errors if not any(text in str(e) for text in refusals)] == []


def test_a_drain_ends_at_its_timeout(serving):
    running = serving("--drain-timeout=0.05")
    callers = Callers(running.settings.grpc_url, 6)
    time.sleep(1.0)
    started = time.monotonic()
    output, told = running.stop()
    callers.stop()
    assert (running.process.returncode, output) == (0, "stopped\n")
    assert "warning: clips were still being made after 0.05 s" in told
    assert time.monotonic() - started < PATIENCE_S / 2
