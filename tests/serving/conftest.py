"""What the serving tests share: one running server, and settings for more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving_fakes import write_fake_repository
from unsee.serving.server.triton import ServerSettings, TritonServer


def free_settings(repository_dir: Path, log_path: Path) -> ServerSettings:
    """Settings with three free ports, patient with a busy machine."""
    return ServerSettings.on_free_ports(repository_dir, log_path, ready_timeout_s=300.0, threads=1)


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
