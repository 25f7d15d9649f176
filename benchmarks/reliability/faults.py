"""What a service under load makes of killed processes and of SIGTERM.

Starts `unsee serve`, lets clients ask for clips without a pause, and kills every kind of model
process, the server, and last asks the command to stop. Printed for each: seconds until a clip is
made again, how many clips ended with an error and how late, how many clients hung beyond their
deadline; at the end what was left in shared memory. The exit code is 1 if a client hung, if a clip
that had begun failed on SIGTERM, or if something was left.

    python -m benchmarks.reliability.faults --write
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.measuring.processes import descendants
from benchmarks.measuring.record import finish, repository_option, write_option
from benchmarks.measuring.service import Callers, child_environment
from unsee.client.client import Client
from unsee.core.errors import RequestRejected, ServerError, ServerUnreachable
from unsee.playground.training.program import exit_code_of
from unsee.repository import pointer
from unsee.repository.layout import SERVED_MODELS
from unsee.serving.server.ports import free_ports
from unsee.serving.supervisor.processes import live_stubs

SERVER, STOP = "tritonserver", "SIGTERM"
PROMPT = "a cat"
GRACE_S = 10.0
"""A client may notice its deadline so much late: it asks whether the server is still there."""
GIVE_UP_S = 120.0
EVERY_S = 0.25
ASK_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Ending:
    """How one clip ended, and after how many seconds; `steps` had been seen by then."""

    error: str | None
    seconds: float
    steps: int
    refused: bool


class Askers(Callers):
    """Clients that ask without a pause while the block lasts, and how their clips ended."""

    def __init__(self, url: str, policies: list[str], clients: int, deadline_s: float) -> None:
        self.endings: list[Ending] = []
        self._url, self._policies, self._deadline_s = url, policies, deadline_s
        super().__init__(self._ask, clients, deadline_s + GRACE_S)

    def _ask(self, number: int, over: threading.Event) -> None:
        policy = self._policies[number % len(self._policies)]
        with Client(self._url, timeout_s=self._deadline_s, retries=0) as client:
            while not over.is_set():
                started, steps, error = time.monotonic(), 0, None
                try:
                    for _ in client.stream(PROMPT, policy=policy):
                        steps += 1
                except ServerError as caught:
                    error = caught
                    over.wait(0.1)
                refused = isinstance(error, RequestRejected | ServerUnreachable) and not steps
                sentence = None if error is None else f"{type(error).__name__}: {error}"
                seconds = time.monotonic() - started
                self.endings.append(Ending(sentence, seconds, steps, refused))


class Service:
    """A running `unsee serve`."""

    def __init__(self, repository_dir: Path, folder: Path) -> None:
        ports = dict(zip(("grpc", "http", "metrics"), free_ports(3), strict=True))
        self.url = f"127.0.0.1:{ports['grpc']}"
        command = [sys.executable, "-m", "unsee.cli.main", "serve"]
        command += ["--repository", str(repository_dir), "--log", str(folder / "triton.log")]
        command += [f"--{name}-port={port}" for name, port in ports.items()]
        self.process = subprocess.Popen(
            command,
            env=child_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line.startswith("ready: "):
            _, output = self.process.communicate()
            raise ServerError(f"the server did not start: {output.strip()}")

    def kill(self, name: str) -> None:
        """SIGKILL to the server, or to the process of a model."""
        guard, server = descendants(self.process.pid)[:2]
        if name == SERVER:
            os.kill(server, signal.SIGKILL)
            return
        (stub,) = [pid for pid, version in live_stubs(guard).items() if version.model == name]
        os.kill(stub, signal.SIGKILL)

    def leftovers(self) -> list[str]:
        """Shared memory of its servers."""
        return [str(path) for path in Path("/dev/shm").glob(f"unsee-{self.process.pid}-*")]

    def seconds_until_a_clip(self, policies: list[str]) -> float:
        """Until a short clip of every policy has been made; endless if one is not."""
        started = time.monotonic()
        with ThreadPoolExecutor(len(policies)) as pool:
            return max(pool.map(self._first_clip, policies)) - started

    def _first_clip(self, policy: str) -> float:
        """When the first of many requests got its clip.

        One is sent every EVERY_S, whatever became of those before: what waits for a dead process
        may do so for seconds, while a new one answers others.
        """
        made: list[float] = []
        one_is_made = threading.Event()

        def ask() -> None:
            client = Client(self.url, timeout_s=ASK_TIMEOUT_S, retries=0)
            with suppress(ServerError), client:
                client.generate(PROMPT, policy=policy, num_inference_steps=1)
                made.append(time.monotonic())
                one_is_made.set()

        until = time.monotonic() + GIVE_UP_S
        while not one_is_made.is_set() and time.monotonic() < until:
            threading.Thread(target=ask, daemon=True).start()
            one_is_made.wait(EVERY_S)
        return min(made, default=float("inf"))


@click.command()
@repository_option
@click.option("--clients", type=click.IntRange(1), default=4, show_default=True)
@click.option("--deadline", "deadline_s", type=float, default=30.0, show_default=True)
@write_option
def main(repository_dir: Path, clients: int, deadline_s: float, write: bool) -> None:
    """Kill what can be killed under load, and say how long the service was down."""
    policies = sorted(pointer.read(repository_dir).policies)
    faults = [*SERVED_MODELS, SERVER]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "repository"
        shutil.copytree(repository_dir, copy)  # incidents are written into it
        service = Service(copy, Path(folder))
        try:
            rows = []
            for fault in faults:
                rows.append(killed(service, fault, policies, clients, deadline_s))
                click.echo(f"{fault}: {rows[-1]['healthy_after_s']:.1f} s", err=True)
            rows.append(stopped(service, policies, clients, deadline_s))
        finally:
            service.process.kill()
            service.process.communicate()
    left = service.leftovers()
    record = {"clients": clients, "deadline_s": deadline_s, "faults": rows}
    record |= {"left_in_shared_memory": left}
    finish("reliability/faults", record, write=write)
    if left or any(row["hung"] for row in rows) or rows[-1]["failed_after_a_step"]:
        raise SystemExit(1)


def killed(
    service: Service, fault: str, policies: list[str], clients: int, deadline_s: float
) -> dict[str, Any]:
    """One process is killed while clients ask."""
    with Askers(service.url, policies, clients, deadline_s) as callers:
        time.sleep(2.0)
        service.kill(fault)
        down_s = service.seconds_until_a_clip(policies)
        time.sleep(1.0)
    return {"fault": fault, "healthy_after_s": down_s} | counted(callers)


def stopped(
    service: Service, policies: list[str], clients: int, deadline_s: float
) -> dict[str, Any]:
    """The command is asked to stop while clients ask."""
    with Askers(service.url, policies, clients, deadline_s) as callers:
        time.sleep(2.0)
        started = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        service.process.wait(GIVE_UP_S)
        exited_after_s = time.monotonic() - started
    return {"fault": STOP, "exited_after_s": exited_after_s} | counted(callers)


def counted(callers: Askers) -> dict[str, Any]:
    """How the clients' clips ended."""
    errors = [ending for ending in callers.endings if ending.error is not None]
    return {
        "clips": len(callers.endings) - len(errors),
        "refused": sum(ending.refused for ending in errors),
        "failed_after_a_step": sum(not ending.refused for ending in errors),
        "slowest_error_s": max((ending.seconds for ending in errors), default=0.0),
        "hung": callers.hung,
        "endings": [asdict(ending) for ending in errors[:5]],
    }


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
