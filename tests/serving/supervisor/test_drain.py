"""A server that is to stop ends what it is doing, as far as its time allows."""

from types import SimpleNamespace

import pytest

from unsee.core.errors import RequestRejected, ServerUnreachable
from unsee.serving.server.triton import ServerSettings, TritonServer
from unsee.serving.supervisor import drain
from unsee.triton.server import VersionState

LOADED, GOING, GONE = VersionState.LOADED, VersionState.CHANGING, VersionState.UNLOADED


class FakeServer:
    """Writes down its calls; `states` holds an answer of `versions` for each question."""

    def __init__(self):
        self.calls, self.states, self.error = [], [], None

    def _note(self, *call):
        if self.error is not None:
            raise self.error
        self.calls.append(call)

    def unload(self, model, timeout_s):
        self._note("unload", model)

    def versions(self, model):
        self._note("index")
        state, *rest = self.states
        self.states = rest or self.states
        return {1: state}


class FakeQuiet:
    def __init__(self, session):
        pass

    def seconds(self):
        return 0.0


@pytest.fixture
def triton(monkeypatch):
    fake = FakeServer()
    monkeypatch.setattr(drain, "Server", lambda url: fake)
    return fake


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(drain, "Quiet", FakeQuiet)
    monkeypatch.setattr(drain, "POLL_S", 0.001)
    settings = SimpleNamespace(grpc_url="127.0.0.1:1", repository_dir=tmp_path)
    return SimpleNamespace(pid=7, settings=settings, exit_code=lambda: None)


def test_a_drain_waits_until_the_model_is_unloaded(triton, server):
    triton.states = [LOADED, GOING, GONE]
    assert drain.drain(server, 60.0)
    assert triton.calls == [("unload", "text_to_video"), *[("index",)] * 3]


def test_a_drain_ends_when_nothing_is_computed_any_more(triton, server, monkeypatch):
    triton.states = [GOING]
    assert not drain.drain(server, 0.05)
    monkeypatch.setattr(FakeQuiet, "seconds", lambda self: drain.QUIET_S + 1.0)
    assert drain.drain(server, 60.0)


@pytest.mark.parametrize(("code", "quiet_s"), [(137, 0.0), (None, drain.QUIET_S + 1.0)])
def test_a_drain_of_a_server_that_is_gone_or_unreachable_and_idle_is_over(
    triton, server, monkeypatch, code, quiet_s
):
    triton.error = ServerUnreachable("no server answers")
    server.exit_code = lambda: code
    monkeypatch.setattr(FakeQuiet, "seconds", lambda self: quiet_s)
    assert drain.drain(server, 60.0)


def test_a_drain_of_a_server_that_is_being_started_is_over(tmp_path):
    settings = ServerSettings(tmp_path, tmp_path / "log")
    assert drain.drain(TritonServer(settings), 60.0)


@pytest.mark.parametrize(
    "error", [RequestRejected("busy", "DEADLINE_EXCEEDED"), ServerUnreachable("no server answers")]
)
def test_a_drain_asks_a_busy_server_again_until_its_time_is_up(triton, server, error):
    triton.error = error
    assert not drain.drain(server, 0.05)
