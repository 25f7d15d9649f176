"""`unsee serve` as a process: ready, stopped, killed; and nothing stays behind in any case."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from serving_fakes import wait_until, write_fake_repository
from unsee.client.client import Client
from unsee.repository.layout import SERVED_MODELS
from unsee.triton.server import ModelVersion, Server, VersionState

pytestmark = pytest.mark.triton

TIMEOUT_S = 300.0


@pytest.fixture
def repository(tmp_path):
    """One in which nothing is left over."""
    repository = write_fake_repository(tmp_path / "repository", unet_work=4)
    shutil.rmtree(repository / "policy_family" / "3")
    return repository


@pytest.fixture
def start(settings, tmp_path):
    """Starts `unsee serve` with its own temporary folder; kills whatever is left of it."""
    processes = []

    def start(repository, *options):
        command = [sys.executable, "-m", "unsee.cli.main", "serve"]
        command += ["--repository", str(repository), "--log", str(settings.log_path)]
        command += [f"--{name}-port={port}" for name, port in settings.ports.items()]
        temporary = tmp_path / "temporary"
        temporary.mkdir(exist_ok=True)
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "TMPDIR": str(temporary),
        }
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen([*command, "--threads=1", *options], env=environment, **pipes)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()
    pids = [process.pid for process in processes]
    wait_until(lambda: not any(remains(pid, tmp_path) for pid in pids))


def remains(launcher_pid, tmp_path):
    """What a launcher has left behind: processes, shared memory, temporary files."""
    found = [str(path) for path in Path("/dev/shm").glob(f"unsee-{launcher_pid}-*")]
    found += [str(path) for path in (tmp_path / "temporary").iterdir()]
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                arguments = (folder / "cmdline").read_bytes().decode(errors="replace")
                marks = (str(tmp_path / "temporary"), f"unsee-{launcher_pid}-")
                found += [arguments] if any(mark in arguments for mark in marks) else []
    return found


def test_sigterm_stops_the_server_and_leaves_nothing(start, tmp_path):
    """What is not offered was put away before Triton started."""
    repository = write_fake_repository(tmp_path / "repository", unet_work=4)
    process = start(repository)
    line = process.stdout.readline()
    assert line.startswith("ready: grpc 127.0.0.1:"), line or process.stderr.read()
    assert "base (revision 1), family (revision 1)" in line
    assert not (repository / "policy_family" / "3").exists()
    assert (repository / ".rejected" / "policy_family" / "3" / "model.onnx").is_file()
    assert remains(process.pid, tmp_path)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, output) == (0, "stopped\n")
    assert errors == (
        'revision 3 of the policy "family" was moved to .rejected: left by an interrupted command\n'
    )
    assert remains(process.pid, tmp_path) == []


def test_sigint_stops_a_background_job_of_a_script(start, repository, tmp_path):
    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a non-interactive shell's `&` does
    try:
        process = start(repository)
    finally:
        signal.signal(signal.SIGINT, ignored)
    assert process.stdout.readline().startswith("ready: ")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=TIMEOUT_S) == ("stopped\n", "")
    assert process.returncode == 0
    assert remains(process.pid, tmp_path) == []


def test_a_model_that_does_not_load_is_told_in_the_logs_words(start, repository, tmp_path):
    (repository / "vae_decoder" / "1" / "model.onnx").write_bytes(b"rubbish")
    process = start(repository)
    output, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 3
    assert output == ""
    assert errors.startswith("error: tritonserver ended while starting; its log, ")
    assert "vae_decoder, version 1: ONNX Runtime cannot open model.onnx" in errors
    assert "Traceback" not in errors
    assert remains(process.pid, tmp_path) == []


def test_a_repository_that_is_not_whole_is_one_sentence(start, repository):
    (repository / "text_to_video" / "assets" / "base.json").unlink()
    process = start(repository)
    output, errors = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, output) == (2, "")
    assert errors.count("\n") == 1
    assert "text_to_video/assets/base.json is missing" in errors


def test_without_repair_everything_is_left_and_a_killed_launcher_takes_its_server_with_it(
    start, settings, tmp_path
):
    repository = write_fake_repository(tmp_path / "repository", unet_work=4)
    process = start(repository, "--no-repair")
    assert process.stdout.readline().startswith("ready: ")
    index = Server(settings.grpc_url).index().items()
    ready = {version for version, state in index if state is VersionState.LOADED}
    assert ready == {ModelVersion(model, 1) for model in SERVED_MODELS}
    assert (repository / "policy_family" / "3" / "model.onnx").is_file()
    with Client(settings.grpc_url) as client:
        stream = client.stream("a cat", policy="base", num_inference_steps=12)
        next(stream)
        process.kill()
        process.communicate()
        with contextlib.suppress(Exception):
            list(stream)
    wait_until(lambda: not remains(process.pid, tmp_path))
