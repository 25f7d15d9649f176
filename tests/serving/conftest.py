"""What the serving tests share: one running server, and settings for more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving_fakes import triton_of, write_fake_repository
from unsee.serving.server.triton import ServerSettings, TritonServer


@pytest.fixture(scope="session")
def fake_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_repository(tmp_path_factory.mktemp("serving") / "repository", unet_work=4)


@pytest.fixture(scope="session")
def server(fake_repository: Path) -> Iterator[TritonServer]:
    with triton_of(fake_repository) as running:
        yield running


@pytest.fixture
def settings(fake_repository: Path, tmp_path: Path) -> ServerSettings:
    """Settings with three free ports, patient with a busy machine."""
    log = tmp_path / "log" / "tritonserver.log"
    return ServerSettings.on_free_ports(fake_repository, log, ready_timeout_s=300.0, threads=1)
