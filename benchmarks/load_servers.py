"""Servers for the measurements under load: Triton with few places, and a gateway before it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from unsee.client.client import Client
from unsee.core.errors import ServerError
from unsee.gateway.callers.credentials import new_token, token_sha256


@dataclass(frozen=True)
class Places:
    """How many clips are made at once, and how many requests may wait."""

    running: int
    waiting: int


@dataclass(frozen=True)
class Gateway:
    """A running gateway: its gRPC address, and the tokens of its tenants by name."""

    address: str
    tokens: dict[str, str]

    def client(self, tenant: str) -> Client:
        """A connection of one tenant."""
        return Client(self.address, token=self.tokens[tenant], retries=0)


@contextmanager
def gateway(
    triton: str, policies: list[str], places: Places, tenants: tuple[str, ...], folder: Path
) -> Iterator[Gateway]:
    """A gateway process whose tenants have equal weights and may each take every place.

    Raises:
        ServerError: it did not start.
    """
    tokens = {name: new_token() for name in tenants}
    entries = [
        {
            "name": name,
            "token_sha256": token_sha256(token),
            "policies": policies,
            "allow_base": True,
            "max_concurrent": places.running,
            "max_waiting": places.waiting,
        }
        for name, token in tokens.items()
    ]
    limits = {"max_running": places.running, "max_waiting": places.waiting}
    config = {"triton": triton, "grpc": "127.0.0.1:0", "http": None}
    file = folder / "gateway.yaml"
    file.write_text(yaml.safe_dump(config | {"tenants": entries, "limits": limits}))
    command = [sys.executable, "-m", "unsee.cli.main", "gateway", "--config", str(file)]
    with subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            words = (process.stdout.readline() if process.stdout else "").split()
            if not words:
                raise ServerError("the gateway did not start")
            yield Gateway(words[2].rstrip(";"), tokens)
        finally:
            process.terminate()


def with_places(repository_dir: Path, copy: Path, places: Places) -> Path:
    """The repository as `copy`, of hard links, with other bounds of `text_to_video`."""
    shutil.copytree(repository_dir, copy, copy_function=os.link)
    file = copy / "text_to_video" / "config.pbtxt"
    config = text_format.Parse(file.read_text(), model_config_pb2.ModelConfig())
    config.parameters["max_running_requests"].string_value = str(places.running)
    config.parameters["max_waiting_requests"].string_value = str(places.waiting)
    file.unlink()
    file.write_text(text_format.MessageToString(config))
    return copy
