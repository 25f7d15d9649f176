"""Gateways before a fake Triton, each stopped after its test."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway_fakes import Served


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Starts gateways with settings of the test's own."""
    with contextlib.ExitStack() as stack:

        def start(**settings: Any) -> Served:
            served = Served(**settings)
            stack.callback(served.stop)
            return served

        yield start


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    return serve(limits={"read_timeout_s": 1.0, "drain_timeout_s": 2.0})


@pytest.fixture(autouse=True)
def _no_token_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("UNSEE_TOKEN", "UNSEE_TLS", "UNSEE_CA_CERTIFICATE"):
        monkeypatch.delenv(variable, raising=False)
