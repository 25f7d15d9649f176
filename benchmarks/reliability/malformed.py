"""Malformed requests against a gateway in a process of its own: outcomes, memory, slowest answer.

Half of them go over gRPC and half over HTTP, all with a valid token: random bytes, good requests
with bytes changed, and JSON of wrong values. Every answer must come in time and be one clean
sentence; the exit code is 1 if one was not, or if the gateway died. Requests that happen to be good
get UNAVAILABLE, unless --triton names a server that makes their clips.

    python -m benchmarks.reliability.malformed --write
"""

from __future__ import annotations

import collections
import http.client
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import grpc

from benchmarks.measuring.processes import resident_mib
from benchmarks.measuring.record import finish, say, write_option
from benchmarks.measuring.service import gateway
from unsee.client.messages import build_request
from unsee.core.request_schema import INPUTS
from unsee.playground.training.program import exit_code_of

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
PATH = "/v2/models/text_to_video/generate_stream"
EXPECTED = {"OK", "INVALID_ARGUMENT", "PERMISSION_DENIED", "UNAVAILABLE"}
EXPECTED_CODES = {200, 400, 403, 503}
TRACES = ("Traceback", "site-packages", ".py", "Error(")
TIMEOUT_S = 20.0
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1e400,
    float("nan"),
    2**70,
    "",
    "a\0b",
    [],
    {},
    "base",
)

Outcome = tuple[str, str]
"""The status by its name, and the sentence."""


@click.command()
@click.option("--requests", "count", type=click.IntRange(1), default=20_000, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--triton", default="127.0.0.1:1", help="A Triton for the good ones.  [default: none]"
)
@write_option
def main(count: int, seed: int, triton: str, write: bool) -> None:
    """Send malformed requests to a gateway and count what comes back."""
    with (
        tempfile.TemporaryDirectory() as folder,
        gateway(triton, Path(folder), ["caller"], {"policies": ["family"]}) as before,
    ):
        process, token = before.process, before.tokens["caller"]
        senders = [grpc_sender(before.grpc, token), http_sender(before.http, token)]
        chance = random.Random(seed)
        for k in range(50):  # what is allocated once should not count as growth
            senders[k % 2](chance)
        before_mib = resident_mib(process.pid)
        report = bombard(senders, chance, count)
        report |= {"rss_before_mib": before_mib, "rss_after_mib": resident_mib(process.pid)}
        alive = process.poll() is None
    report["gateway_alive"] = alive
    finish("reliability/malformed", report, write=write)
    if report["bad_answers"] or not alive:
        raise SystemExit(1)


def bombard(
    senders: list[Callable[[random.Random], Outcome]], chance: random.Random, count: int
) -> dict[str, Any]:
    """Send `count` requests, in turn through each of `senders`."""
    outcomes: collections.Counter[str] = collections.Counter()
    bad: list[str] = []
    slowest_s, started = 0.0, time.monotonic()
    for k in range(count):
        if k % 2000 == 0:
            say(f"{k} of {count} requests")
        sent = time.monotonic()
        status, sentence = senders[k % len(senders)](chance)
        slowest_s = max(slowest_s, time.monotonic() - sent)
        outcomes[status] += 1
        if not clean(status, sentence):
            bad.append(f"{status}: {sentence[:200]}")
    return {
        "outcomes": dict(sorted(outcomes.items())),
        "bad_answers": bad[:20],
        "slowest_s": round(slowest_s, 4),
        "seconds": round(time.monotonic() - started, 1),
    }


def clean(status: str, sentence: str) -> bool:
    """Whether an answer is one that a caller should get."""
    expected = status.removeprefix("grpc ") in EXPECTED or status in {
        f"http {code}" for code in EXPECTED_CODES
    }
    return expected and not any(trace in sentence for trace in TRACES)


def grpc_sender(address: str, token: str) -> Callable[[random.Random], Outcome]:
    """Sends malformed messages over one channel."""
    call = grpc.insecure_channel(address).stream_stream(STREAM)
    metadata = (("authorization", f"Bearer {token}"),)

    def send(chance: random.Random) -> Outcome:
        try:
            list(call(iter([message(chance)]), metadata=metadata, timeout=TIMEOUT_S))
        except grpc.RpcError as error:
            return f"grpc {error.code().name}", error.details() or ""
        return "grpc OK", ""

    return send


def http_sender(address: str, token: str) -> Callable[[random.Random], Outcome]:
    """Sends malformed bodies over one connection."""
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}

    def send(chance: random.Random) -> Outcome:
        try:
            connection.request("POST", PATH, body(chance), headers)
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return "http broken", type(error).__name__
        return f"http {response.status}", "" if response.status == 200 else text

    return send


def message(chance: random.Random) -> bytes:
    """Random bytes, or a ModelInferRequest with some of its bytes changed."""
    if chance.random() < 0.3:
        return chance.randbytes(chance.randrange(400))
    values = {"prompt": "a cat", "seed": chance.randrange(100), "policy": "family"}
    request = build_request(values | {"guidance_scale": chance.uniform(-10, 10)})
    request.id = str(chance.random())
    data = bytearray(request.SerializeToString())
    for _ in range(chance.randrange(1, 6)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data[: chance.randrange(len(data)) if chance.random() < 0.2 else None])


def body(chance: random.Random) -> bytes:
    """Random bytes, or JSON with values of wrong types."""
    if chance.random() < 0.3:
        return chance.randbytes(chance.randrange(400))
    fields = chance.sample([*INPUTS, "id", "timeout_s", "parameters"], chance.randrange(6))
    content = {"prompt": "a cat"} | {field: chance.choice(VALUES) for field in fields}
    return json.dumps(content).encode()


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
