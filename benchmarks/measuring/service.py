"""A gateway in a process of its own, and clients that ask a service without a pause."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from unsee.client.client import Client
from unsee.core.errors import ServerError
from unsee.gateway.callers.credentials import new_token, token_sha256


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
) -> Iterator[Gateway]:
    """A gateway before `triton` while the block lasts; every tenant has the settings `tenant`.

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
        [sys.executable, "-m", "unsee.cli.main", "gateway", "--config", str(file)],
        env=child_environment(),
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
