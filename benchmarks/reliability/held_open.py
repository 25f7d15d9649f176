"""What good callers of a gateway notice while others hold calls and connections open.

A gateway in a process of its own, before a Triton that only pretends (a clip takes 20 ms). Two
tenants ask for clips without a pause, one over gRPC and one over HTTP, and a third caller asks for
liveness. Meanwhile an attacker on the same machine keeps 256 calls or connections open, and opens
each anew when it is closed. Printed per attack: answers, refusals, p50 and p95, and the p95 over
that of the quiet turn before it. The load is bounded: one machine, `--seconds` an attack.

    python -m benchmarks.reliability.held_open --write
    python -m benchmarks.reliability.held_open --checkout ../unsee-0.1 --name before --write
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import selectors
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import grpc

from benchmarks.measuring.processes import KeptProcess
from benchmarks.measuring.record import as_json, finish, say, write_option
from benchmarks.measuring.service import Callers, Gateway, gateway, grey_triton
from unsee.cli.parameters import OLD_FOLDER
from unsee.client.client import Client
from unsee.core.errors import ServerError, UnseeError
from unsee.playground.training.program import exit_code_of

HELD_OPEN = 256
"""What the gateway takes in all, by default."""
CLIP_S = 0.02
REOPEN_PAUSE_S = 0.01
SETTLE_S = 2.0
PATIENCE_S = 30.0
SERVICE = "/inference.GRPCInferenceService/"
STREAM = "/v2/models/text_to_video/generate_stream"
TENANTS = ("grpc-caller", "http-caller", "attacker")


@dataclass
class Answers:
    """What one caller got: seconds of its answers, and the sentences of its refusals."""

    seconds: list[float] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)


@click.command()
@click.option("--seconds", type=click.FloatRange(1, 120), default=10.0, show_default=True)
@click.option(
    "--checkout",
    type=OLD_FOLDER,
    help="Another checkout whose gateway is attacked.  [default: this one]",
)
@click.option("--name", default="after", show_default=True, help="What the record calls this run.")
@write_option
def main(seconds: float, checkout: Path | None, name: str, write: bool) -> None:
    """Attack a gateway and time what its good callers get."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, grey_triton(CLIP_S) as triton:
        for title in attacks(""):
            with started(triton, Path(folder), checkout) as running:
                quiet = turn(running, seconds, None)
                attacked = turn(running, seconds, title)
            rows.append({"attack": title, "callers": compared(quiet, attacked)})
            say(as_json(rows[-1]))
    report = {"held_open": HELD_OPEN, "seconds": seconds, "attacks": rows}
    finish(f"reliability/held_open_{name}", report, write=write)


Attack = Callable[[str, str], None]
"""Attacks the gateway at a gRPC and an HTTP address until its process ends."""


def attacks(token: str) -> dict[str, Attack]:
    """Every way of holding something open, by what it is called."""
    slow_body = (
        f"POST {STREAM} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        "Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    )
    return {
        "gRPC: unary calls whose message never comes": calls_without_message("ServerLive", ()),
        "gRPC: idle streams of one tenant": calls_without_message(
            "ModelStreamInfer", (("authorization", f"Bearer {token}"),)
        ),
        "HTTP: connections that send nothing": idle_connections(b""),
        "HTTP: heads that never end": idle_connections(
            b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
        ),
        "HTTP: one byte of body after an answer": idle_connections(
            b"POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\na"
        ),
        "HTTP: slow bodies of one tenant": idle_connections(slow_body.encode()),
    }


def calls_without_message(method: str, metadata: Any) -> Attack:
    """Keeps `HELD_OPEN` calls of `method` open, four connections in all."""

    def attack(grpc_at: str, http_at: str) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        starts = [
            grpc.insecure_channel(grpc_at, options).stream_stream(SERVICE + method)
            for _ in range(4)
        ]

        def nothing() -> Iterator[bytes]:
            threading.Event().wait()
            yield b""

        calls = [starts[k % 4](nothing(), metadata=metadata) for k in range(HELD_OPEN)]
        while True:
            time.sleep(REOPEN_PAUSE_S)
            for k, call in enumerate(calls):
                if not call.is_active():
                    calls[k] = starts[k % 4](nothing(), metadata=metadata)
                    time.sleep(REOPEN_PAUSE_S)

    return attack


def idle_connections(sent: bytes) -> Attack:
    """Keeps `HELD_OPEN` connections open that have sent `sent` and send no more."""

    def attack(grpc_at: str, http_at: str) -> None:
        host, port = http_at.split(":")
        selector = selectors.DefaultSelector()

        def opened() -> None:
            with contextlib.suppress(OSError):
                connection = socket.create_connection((host, int(port)), timeout=1.0)
                selector.register(connection, selectors.EVENT_READ)
                connection.sendall(sent)

        for _ in range(HELD_OPEN):
            opened()
        while True:
            time.sleep(REOPEN_PAUSE_S)
            for key, _ in selector.select(timeout=0):
                connection: Any = key.fileobj
                with contextlib.suppress(OSError):
                    if connection.recv(65536):
                        continue
                selector.unregister(connection)
                connection.close()
                opened()
                time.sleep(REOPEN_PAUSE_S)

    return attack


class Attacker:
    """One attack in a thread of the process that makes this object; both end together."""

    def __init__(self, title: str, token: str, grpc_at: str, http_at: str) -> None:
        attack = attacks(token)[title]
        threading.Thread(target=attack, args=(grpc_at, http_at), daemon=True).start()


@contextlib.contextmanager
def attacking(title: str | None, running: Gateway) -> Iterator[None]:
    """A process of its own attacks while the block lasts; None: nobody does."""
    if title is None:
        yield
        return
    token = running.tokens["attacker"]
    with KeptProcess(Attacker, title, token, running.grpc, running.http):
        time.sleep(SETTLE_S)
        yield


def turn(running: Gateway, seconds: float, attack: str | None) -> dict[str, Answers]:
    """What the good callers got in `seconds`, under an attack or without."""
    askers = {
        "clips over gRPC": grpc_asker(running.grpc, running.tokens["grpc-caller"]),
        "clips over HTTP": http_asker(running.http, STREAM, running.tokens["http-caller"]),
        "liveness": http_asker(running.http, "/livez", None),
    }
    answers = {name: Answers() for name in askers}
    both = list(zip(askers.values(), answers.values(), strict=True))
    with (
        attacking(attack, running),
        Callers(lambda number, over: keep_asking(*both[number], over), len(both), PATIENCE_S),
    ):
        time.sleep(seconds)
    return answers


def keep_asking(ask: Callable[[], object], answers: Answers, over: threading.Event) -> None:
    """Ask until `over`, fifty times a second at most."""
    while not over.wait(CLIP_S):
        started = time.monotonic()
        try:
            ask()
        except (OSError, UnseeError, http.client.HTTPException) as error:
            answers.refusals.append(f"{type(error).__name__}: {error}"[:200])
        else:
            answers.seconds.append(time.monotonic() - started)


def grpc_asker(address: str, token: str) -> Callable[[], object]:
    """Asks for a clip over one connection."""
    client = Client(address, token=token, retries=0, timeout_s=10, connect_timeout_s=5)
    return lambda: client.generate("a cat")


def http_asker(address: str, path: str, token: str | None) -> Callable[[], None]:
    """Asks for a clip, or for liveness, over a connection of its own each time."""

    def ask() -> None:
        connection = http.client.HTTPConnection(address, timeout=10)
        with contextlib.closing(connection):
            if token is None:
                connection.request("GET", path)
            else:
                headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
                connection.request("POST", path, json.dumps({"prompt": "a cat"}), headers)
            response = connection.getresponse()
            body = response.read()
            if response.status != 200 or b"event: error" in body:
                raise ServerError(f"{response.status}: {body[:150].decode(errors='replace')}")

    return ask


def compared(quiet: dict[str, Answers], attacked: dict[str, Answers]) -> dict[str, Any]:
    """The figures of each caller, in the quiet turn and under attack."""
    rows = {}
    for name, got in attacked.items():
        before, after = p95(quiet[name].seconds), p95(got.seconds)
        rows[name] = {
            "quiet_answers": len(quiet[name].seconds),
            "quiet_p95_s": before,
            "answers": len(got.seconds),
            "refused": len(got.refusals),
            "first_refusal": got.refusals[0] if got.refusals else None,
            "p95_s": after,
            "p95_ratio": round(after / before, 2) if after and before else None,
        }
    return rows


def p95(seconds: list[float]) -> float | None:
    """The 95th percentile; None of fewer than two."""
    if len(seconds) < 2:
        return None
    return round(statistics.quantiles(seconds, n=20)[-1], 4)


def started(
    triton: str, folder: Path, checkout: Path | None
) -> contextlib.AbstractContextManager[Gateway]:
    """A gateway of this or of another checkout, whose tenants may use one policy."""
    tenant = {"policies": ["family"]}
    if checkout is None:
        return gateway(triton, folder, TENANTS, tenant)
    portions = [str(path.parent) for path in checkout.glob("*/unsee")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(portions)}
    has_cli = (checkout / "client" / "unsee" / "cli").is_dir()
    module = "unsee.cli.main" if has_cli else "unsee.client.command"  # as in version 0.1
    command = (module, "gateway")
    return gateway(triton, folder, TENANTS, tenant, command=command, environment=environment)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
