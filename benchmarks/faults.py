"""What a service under load makes of killed processes and of SIGTERM.

Starts `unsee serve`, lets clients ask for clips without a pause, and kills every kind of model
process, the server, and last asks the command to stop. Printed for each: seconds until a clip is
made again, how many clips ended with an error and how late, how many clients hung beyond their
deadline; at the end what was left in shared memory. The exit code is 1 if a client hung, if a clip
that had begun failed on SIGTERM, or if something was left.

    python benchmarks/faults.py --write
"""

from __future__ import annotations

import json
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
from process_memory import descendants
from reliability_page import write_page

from unsee.client.client import Client
from unsee.core.errors import RequestRejected, ServerError, ServerUnreachable
from unsee.repository import pointer
from unsee.serving.server.ports import free_ports
from unsee.serving.supervisor.stubs import live_stubs

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


class Callers:
    """Clients that ask without a pause while the block lasts."""

    def __init__(self, url: str, policies: list[str], clients: int, deadline_s: float) -> None:
        self.endings: list[Ending] = []
        self.hung = 0
        self._deadline_s = deadline_s
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(url, policies[k % len(policies)]), daemon=True)
            for k in range(clients)
        ]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        until = time.monotonic() + self._deadline_s + GRACE_S
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        self.hung = sum(thread.is_alive() for thread in self._threads)

    def _ask(self, url: str, policy: str) -> None:
        with Client(url, timeout_s=self._deadline_s, retries=0) as client:
            while not self._over.is_set():
                started, steps, error = time.monotonic(), 0, None
                try:
                    for _ in client.stream(PROMPT, policy=policy):
                        steps += 1
                except ServerError as caught:
                    error = caught
                    self._over.wait(0.1)
                refused = isinstance(error, RequestRejected | ServerUnreachable) and not steps
                told = None if error is None else f"{type(error).__name__}: {error}"
                seconds = time.monotonic() - started
                self.endings.append(Ending(told, seconds, steps, refused))


class Service:
    """A running `unsee serve`."""

    def __init__(self, repository_dir: Path, folder: Path) -> None:
        ports = dict(zip(("grpc", "http", "metrics"), free_ports(3), strict=True))
        self.url = f"127.0.0.1:{ports['grpc']}"
        command = [sys.executable, "-m", "unsee.cli.main", "serve"]
        command += ["--repository", str(repository_dir), "--log", str(folder / "triton.log")]
        command += [f"--{name}-port={port}" for name, port in ports.items()]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line.startswith("ready: "):
            _, told = self.process.communicate()
            raise ServerError(f"the server did not start: {told.strip()}")

    def kill(self, name: str) -> None:
        """SIGKILL to the server, or to the process of a model's lowest version."""
        guard, server = descendants(self.process.pid)[:2]
        if name == SERVER:
            os.kill(server, signal.SIGKILL)
            return
        stubs = [(v.version, pid) for pid, v in live_stubs(guard).items() if v.model == name]
        os.kill(min(stubs)[1], signal.SIGKILL)

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
@click.option(
    "--repository",
    "repository_dir",
    type=click.Path(path_type=Path, exists=True),
    default="demo/model_repository",
    show_default=True,
)
@click.option("--clients", type=click.IntRange(1), default=4, show_default=True)
@click.option("--deadline", "deadline_s", type=float, default=30.0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--write", is_flag=True, help="Write docs/measured/reliability.md and its record.")
def main(repository_dir: Path, clients: int, deadline_s: float, as_json: bool, write: bool) -> None:
    """Kill what can be killed under load, and say how long the service was down."""
    policies = sorted(pointer.read(repository_dir).policies)
    encoders = [pointer.encoder_model(policy) for policy in policies]
    faults = [*encoders, "text_to_video", "video_unet", "vae_decoder", SERVER]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "repository"
        shutil.copytree(repository_dir, copy)  # incidents are written into it
        service = Service(copy, Path(folder))
        try:
            rows = []
            for fault in faults:
                rows.append(killed(service, fault, policies, clients, deadline_s))
                if not as_json:
                    click.echo(line_of(rows[-1]))
            rows.append(stopped(service, policies, clients, deadline_s))
        finally:
            service.process.kill()
            service.process.communicate()
    left = service.leftovers()
    record = {"clients": clients, "deadline_s": deadline_s, "faults": rows}
    record |= {"left_in_shared_memory": left}
    if write:
        write_page("faults", record)
    if as_json:
        click.echo(json.dumps(record, indent=1))
    else:
        click.echo(f"{line_of(rows[-1])}\nleft in shared memory: {len(left)}")
    if left or any(row["hung"] for row in rows) or rows[-1]["failed_after_a_step"]:
        raise SystemExit(1)


def killed(
    service: Service, fault: str, policies: list[str], clients: int, deadline_s: float
) -> dict[str, Any]:
    """One process is killed while clients ask."""
    with Callers(service.url, policies, clients, deadline_s) as callers:
        time.sleep(2.0)
        service.kill(fault)
        down_s = service.seconds_until_a_clip(policies)
        time.sleep(1.0)
    return {"fault": fault, "healthy_after_s": down_s} | counted(callers)


def stopped(
    service: Service, policies: list[str], clients: int, deadline_s: float
) -> dict[str, Any]:
    """The command is asked to stop while clients ask."""
    with Callers(service.url, policies, clients, deadline_s) as callers:
        time.sleep(2.0)
        started = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        service.process.wait(GIVE_UP_S)
        exited_after_s = time.monotonic() - started
    return {"fault": STOP, "exited_after_s": exited_after_s} | counted(callers)


def counted(callers: Callers) -> dict[str, Any]:
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


def line_of(row: dict[str, Any]) -> str:
    """One row for a person."""
    seconds = row.get("healthy_after_s", row.get("exited_after_s"))
    word = "exited" if row["fault"] == STOP else "healthy"
    return (
        f"{row['fault']:<24} {word} after {seconds:6.2f} s; clips {row['clips']:>3}, refused "
        f"{row['refused']:>3}, failed {row['failed_after_a_step']:>2}, slowest error "
        f"{row['slowest_error_s']:5.1f} s, hung {row['hung']}"
    )


if __name__ == "__main__":
    main()
