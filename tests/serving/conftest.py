"""What the serving tests share: the model's own package on `sys.path`, and one running server."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from serving_fakes import TEMPLATE_DIR, write_fake_repository
from unsee.serving.triton import ServerSettings, TritonServer

sys.path.append(str(TEMPLATE_DIR))  # as Triton's stub does


def free_settings(repository_dir: Path, log_path: Path) -> ServerSettings:
    """Settings with three free ports."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        grpc_port, http_port, metrics_port = (each.getsockname()[1] for each in sockets)
    return ServerSettings(
        repository_dir=repository_dir,
        log_path=log_path,
        grpc_port=grpc_port,
        http_port=http_port,
        metrics_port=metrics_port,
        ready_timeout_s=300.0,
        threads=1,
    )


@pytest.fixture(scope="session")
def fake_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_repository(tmp_path_factory.mktemp("serving") / "repository", unet_work=4)


@pytest.fixture(scope="session")
def server(
    fake_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    log_path = tmp_path_factory.mktemp("log") / "tritonserver.log"
    with TritonServer(free_settings(fake_repository, log_path)) as running:
        yield running


@pytest.fixture
def settings(fake_repository: Path, tmp_path: Path) -> ServerSettings:
    return free_settings(fake_repository, tmp_path / "log" / "tritonserver.log")
