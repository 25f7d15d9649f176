"""Starts the wheel's tritonserver on a model repository, and stops it without leaving a trace.

The server runs under `guard.py`, which ends it even when this process is killed.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from unsee.core.errors import InputError, PortInUse, ServerNotReady
from unsee.core.files import lock
from unsee.repository.check import loadable_models
from unsee.serving.server.installation import Installation, assemble_backends, find_installation
from unsee.serving.server.interpreter import StubInterpreter, fit_interpreter
from unsee.serving.server.ports import free_ports
from unsee.triton.admin_key import (
    HTTP_HEADER,
    RESTRICTED,
    RESTRICTED_OVER_HTTP,
    forget_key,
    make_key,
)

GUARD = Path(__file__).with_name("guard.py")
STOP_TIMEOUT_S = 15.0
EXIT_TIMEOUT_S = 5
POLL_S = 0.1
LOG_TAIL_LINES = 15


@dataclass(frozen=True)
class ServerSettings:
    """How to serve. `threads` None means every core this process may use; addresses are TCP."""

    repository_dir: Path
    log_path: Path
    host: str = "127.0.0.1"
    grpc_port: int = 8001
    http_port: int = 8000
    metrics_port: int = 8002
    ready_timeout_s: float = 120.0
    threads: int | None = None

    @classmethod
    def on_free_ports(cls, repository_dir: Path, log_path: Path, **others: Any) -> Self:
        """Settings with ports that nobody listens on: one server more is in no one's way."""
        grpc_port, http_port, metrics_port = free_ports(3)
        return cls(
            repository_dir,
            log_path,
            grpc_port=grpc_port,
            http_port=http_port,
            metrics_port=metrics_port,
            **others,
        )

    @property
    def ports(self) -> dict[str, int]:
        """The ports by the names of their options."""
        return {"grpc": self.grpc_port, "http": self.http_port, "metrics": self.metrics_port}

    @property
    def local_host(self) -> str:
        """An address at which this machine itself reaches the server."""
        return "127.0.0.1" if self.host == "0.0.0.0" else self.host

    @property
    def grpc_url(self) -> str:
        """Host and gRPC port, as clients want it."""
        return f"{self.local_host}:{self.grpc_port}"


class TritonServer:
    """One tritonserver: `with TritonServer(settings) as server: …` starts it and waits until ready.

    Raises InputError (repository, interpreter, port) before anything is started, ServerNotReady
    afterwards.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self._guard: subprocess.Popen[bytes] | None = None
        self._held = contextlib.ExitStack()
        self._key = ""

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Check everything that can be checked, then start the server; does not wait for it."""
        with contextlib.ExitStack() as held:
            if self.settings.repository_dir.is_dir():
                with contextlib.suppress(OSError):  # a file system without locks
                    held.enter_context(_unchanged(self.settings.repository_dir))
            self._start()
            self._held = held.pop_all()

    def _start(self) -> None:
        settings = self.settings
        models = loadable_models(settings.repository_dir)
        check_place(settings.repository_dir)
        interpreter = fit_interpreter()
        installation = find_installation(interpreter)
        check_ports(settings)
        self._key = make_key(settings.grpc_url)
        folder = Path(tempfile.mkdtemp(prefix="unsee-triton-"))
        try:
            prefix = f"unsee-{os.getpid()}-{secrets.token_hex(4)}-"
            backends_dir = assemble_backends(installation, folder / "backends")
            server = server_command(installation.binary, settings, models, backends_dir, prefix)
            server += key_options(self._key)
            environment = server_environment(os.environ, settings, interpreter, installation)
            self._guard = self._start_guard(folder, prefix, server, environment)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            forget_key(settings.grpc_url, self._key)
            raise

    def wait_ready(self) -> None:
        """Wait until the server is ready to infer; raises ServerNotReady with the log's words."""
        deadline = time.monotonic() + self.settings.ready_timeout_s
        while not self.is_ready():
            if self.exit_code() is not None:
                raise ServerNotReady(f"tritonserver ended while starting{self._log_words()}")
            if time.monotonic() > deadline:
                seconds = f"{self.settings.ready_timeout_s:g} s"
                raise ServerNotReady(f"tritonserver was not ready in {seconds}{self._log_words()}")
            time.sleep(POLL_S)

    def is_ready(self) -> bool:
        """Does the server say that it and all its models are ready?"""
        url = f"http://{self.settings.local_host}:{self.settings.http_port}/v2/health/ready"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(url, timeout=5.0) as response:
                return bool(response.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    @property
    def pid(self) -> int:
        """The guard's process id, which is also the session of the server and its stubs."""
        if self._guard is None:
            raise ServerNotReady("tritonserver has not been started")
        return self._guard.pid

    def exit_code(self) -> int | None:
        """The server's exit code; None while it runs."""
        return None if self._guard is None else self._guard.poll()

    def wait(self) -> int:
        """Wait until the server ends by itself; its exit code."""
        if self._guard is None:
            raise ServerNotReady("tritonserver has not been started")
        return self._guard.wait()

    def stop(self) -> None:
        """End the server and wait for the last of it; does nothing when it has ended."""
        if self._guard is None:
            return
        if self._guard.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._guard.stdin.close()
        self._guard.wait()
        self._guard = None
        self._held.close()
        forget_key(self.settings.grpc_url, self._key)

    def _start_guard(
        self, folder: Path, prefix: str, server: list[str], environment: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        guard = [sys.executable, "-I", str(GUARD), "--folder", str(folder)]
        guard += ["--shm-prefix", prefix, "--stop-timeout-s", str(STOP_TIMEOUT_S), "--"]
        self.settings.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.settings.log_path.open("wb") as log:
            return subprocess.Popen(
                [*guard, *server],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=environment,
                start_new_session=True,  # a terminal's Ctrl-C is for the launcher alone
                umask=0o077,  # shared memory holds prompts and frames
            )

    def _log_words(self) -> str:
        text = self.settings.log_path.read_text(encoding="utf-8", errors="replace")
        return f"; its log, {self.settings.log_path}, says:\n{log_summary(text)}"


def _unchanged(repository_dir: Path) -> AbstractContextManager[int]:
    """Keeps `unsee export` out of the repository; raises Locked while one is at work."""
    what = f"the model repository {repository_dir}"
    return lock(repository_dir, command="serve", what=what, shared=True)


def check_place(repository_dir: Path) -> None:
    """Raises InputError for a path that Triton, which starts its stubs by a shell, would cut up."""
    place = str(repository_dir.resolve())
    found = re.search(r"""[\s"'`\\$&;|<>()]""", place)
    if found is not None:
        raise InputError(
            f"Triton cannot serve from {place}: its path holds {found[0]!r}; move the repository "
            "to a path without spaces, quotes and other signs of the shell"
        )


def check_ports(settings: ServerSettings) -> None:
    """Raises PortInUse naming the first port that somebody else listens on, or is given twice.

    Raises InputError if the host is no address of this machine.
    """
    _check_host(settings.host)
    used: dict[int, str] = {}
    for name, port in settings.ports.items():
        if port in used:
            raise PortInUse(
                f"--{used[port]}-port and --{name}-port are both {port}; give each its own"
            )
        used[port] = name
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind((settings.host, port))
            except OSError as error:
                raise PortInUse(
                    f"cannot listen on {settings.host}:{port} ({error.strerror}); "
                    f"choose another port with --{name}-port"
                ) from error


def _check_host(host: str) -> None:
    try:
        if not host.strip():
            raise ValueError("it is empty")
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as candidate:
            candidate.bind((host, 0))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot listen on the host {host!r} ({reason}); give an IPv4 address of this machine "
            "with --host, such as 127.0.0.1"
        ) from error


def server_command(
    binary: Path, settings: ServerSettings, models: list[str], backends_dir: Path, prefix: str
) -> list[str]:
    """The command line of tritonserver."""
    command = [
        str(binary),
        f"--model-repository={settings.repository_dir.resolve()}",
        "--model-control-mode=explicit",
        "--disable-auto-complete-config",
        f"--backend-directory={backends_dir}",
        f"--backend-config=python,shm-region-prefix-name={prefix}",
        f"--grpc-address={settings.host}",
        f"--http-address={settings.host}",
        f"--metrics-address={settings.host}",
        f"--exit-timeout-secs={EXIT_TIMEOUT_S}",
    ]
    command += [f"--{name}-port={port}" for name, port in settings.ports.items()]
    command += [f"--load-model={model}" for model in models]
    if not Path("/proc/driver/nvidia").exists():
        command += ["--allow-gpu-metrics=false", "--pinned-memory-pool-byte-size=0"]
    return command


def key_options(key: str) -> list[str]:
    """The options with which Triton asks for `key`; it takes the key in no other way.

    The supervisor and the commands that publish show it; inference over gRPC needs none.
    """
    return [
        f"--grpc-restricted-protocol={RESTRICTED}:{HTTP_HEADER}={key}",
        f"--http-restricted-api={RESTRICTED_OVER_HTTP}:{HTTP_HEADER}={key}",
    ]


def server_environment(
    inherited: Mapping[str, str],
    settings: ServerSettings,
    interpreter: StubInterpreter,
    installation: Installation,
) -> dict[str, str]:
    """The environment of tritonserver and so of its stubs."""
    kept = {k: v for k, v in inherited.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    libraries = [str(folder) for folder in installation.library_dirs]
    libraries += [value for key, value in kept.items() if key == "LD_LIBRARY_PATH" and value]
    return kept | {
        "PATH": f"{interpreter.executable.parent}{os.pathsep}{kept.get('PATH', os.defpath)}",
        "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        "PYTHONDONTWRITEBYTECODE": "1",  # __pycache__ in a version folder counts as a change
        "UNSEE_THREADS": str(settings.threads or len(os.sched_getaffinity(0))),
        "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime's wheels report home unless told not to
        "OPENBLAS_NUM_THREADS": "1",  # numpy's sums must not fight the denoiser for the cores
    }


def log_summary(text: str) -> str:
    """Why models did not load, if the log says so; else its last lines."""
    reasons = re.findall(r"failed to load '[^\n]*", text)
    lines = reasons or text.rstrip().splitlines()[-LOG_TAIL_LINES:]
    return "\n".join(dict.fromkeys(line.rstrip('"') for line in lines))
