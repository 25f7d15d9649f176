"""A gateway in a process of its own, and clients that ask a service without a pause."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import grpc
import numpy as np
import yaml
from tritonclient.grpc import service_pb2, service_pb2_grpc

from unsee.client.client import Client
from unsee.client.messages import build_response, read_request
from unsee.core.errors import ServerError
from unsee.gateway.callers.credentials import new_token, token_sha256

SMALLEST = {"num_inference_steps": 1, "num_frames": 1, "height": 8, "width": 8}
GREY_RECORD = {
    "policy": "base",
    "revision": 1,
    "base": "none",
    "base_digest": "sha256:" + "0" * 64,
    "seed": 0,
    "scheduler": "none",
    "guidance_scale": 1.0,
    "fps": 8.0,
    "started_at": "2026-01-01T00:00:00Z",
    "seconds": {},
}


@dataclass(frozen=True)
class Gateway:
    """A running gateway: its process, its addresses, and the tokens of its tenants by name."""

    process: subprocess.Popen[str]
    grpc: str
    http: str
    tokens: Mapping[str, str]

    def client(self, tenant: str) -> Client:
        """A connection of one tenant."""
        return Client(self.grpc, token=self.tokens[tenant], retries=0)


@contextmanager
def gateway(
    triton: str,
    folder: Path,
    tenants: Sequence[str],
    tenant: Mapping[str, Any],
    limits: Mapping[str, Any] | None = None,
    command: Sequence[str] = ("unsee.cli.main", "gateway"),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Gateway]:
    """A gateway before `triton` while the block lasts; every tenant has the settings `tenant`.

    `command` (a module and its arguments) and `environment` are this checkout's by default.

    Raises:
        ServerError: it did not start.
    """
    tokens = {name: new_token() for name in tenants}
    entries = [
        {"name": name, "token_sha256": token_sha256(token), **tenant}
        for name, token in tokens.items()
    ]
    config = {"triton": triton, "grpc": "127.0.0.1:0", "http": "127.0.0.1:0", "tenants": entries}
    file = folder / "gateway.yaml"
    file.write_text(yaml.safe_dump(config | ({"limits": dict(limits)} if limits else {})))
    with subprocess.Popen(
        [sys.executable, "-m", *command, "--config", str(file)],
        env=environment or child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            words = (process.stdout.readline() if process.stdout else "").split()
            if not words:
                raise ServerError("the gateway did not start")
            yield Gateway(process, words[2].rstrip(",;"), words[4].rstrip(";"), tokens)
        finally:
            process.terminate()


def child_environment() -> dict[str, str]:
    """The environment for a command of this checkout."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


class GreyTriton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Stands for a Triton: answers each request with its steps and a grey clip of its size."""

    def __init__(self, clip_s: float) -> None:
        self._clip_s = clip_s

    def ModelStreamInfer(self, requests: Any, context: Any) -> Iterator[Any]:
        """The events and the clip of each request, after `clip_s` seconds."""
        for request in requests:
            asked = SMALLEST | read_request(request)
            time.sleep(self._clip_s)
            steps = asked["num_inference_steps"]
            for step in range(1, steps + 1):
                event = {"type": "progress", "step": step, "num_inference_steps": steps}
                yield _streamed(build_response(event))
            shape = (asked["num_frames"], asked["height"], asked["width"], 3)
            record = GREY_RECORD | {name: asked[name] for name in ("prompt", *SMALLEST)}
            frames = np.full(shape, 128, np.uint8)
            yield _streamed(build_response({"type": "result", "record": record}, frames))


def _streamed(response: Any) -> Any:
    return service_pb2.ModelStreamInferResponse(infer_response=response)


@contextmanager
def grey_triton(clip_s: float = 0.0) -> Iterator[str]:
    """The address of a `GreyTriton` in this process while the block lasts."""
    server = grpc.server(ThreadPoolExecutor(64), options=[("grpc.max_send_message_length", -1)])
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(GreyTriton(clip_s), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None)


class Callers:
    """Threads that each run `ask(number, over)`, which returns soon after `over` is set.

    After the block `hung` is how many have not ended within `patience_s` (None: no limit).
    """

    def __init__(
        self,
        ask: Callable[[int, threading.Event], None],
        count: int,
        patience_s: float | None = None,
    ) -> None:
        self.hung = 0
        self._patience_s = patience_s
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=ask, args=(number, self._over), daemon=True)
            for number in range(count)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        until = None if self._patience_s is None else time.monotonic() + self._patience_s
        for thread in self._threads:
            thread.join(None if until is None else max(0.0, until - time.monotonic()))
        self.hung = sum(thread.is_alive() for thread in self._threads)
