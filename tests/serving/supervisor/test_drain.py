"""A server that is to stop ends what it is doing, and loads a version again that died.

The server only writes down its calls.
"""

import os
from types import SimpleNamespace

import grpc
import pytest
from tritonclient.grpc import service_pb2

from unsee.core.errors import ServerError, ServerUnreachable
from unsee.serving.server.triton import ServerSettings, TritonServer
from unsee.serving.supervisor import drain
from unsee.triton import server as triton_server
from unsee.triton.server import ModelVersion, Server
from unsee.triton.versions import reload

ENCODER = ModelVersion("text_encoder_family", 2)


class Failed(grpc.RpcError):
    def __init__(self, code):
        self._code = code

    def code(self):
        return self._code

    def details(self):
        return "it is\n broken"


class FakeServer:
    """Takes the place of the stub of a connection; `states` holds an index for each question."""

    def __init__(self):
        self.calls, self.states, self.error = [], [], None

    def _note(self, *call):
        if self.error is not None:
            raise self.error
        self.calls.append(call)

    def ServerLive(self, request, timeout, metadata):
        if self.error is not None:
            raise self.error

    def RepositoryModelLoad(self, request, timeout, metadata):
        self._note("load", request.model_name)

    def RepositoryModelUnload(self, request, timeout, metadata):
        self._note("unload", request.model_name)
        self.states = self.states[1:]

    def RepositoryIndex(self, request, timeout, metadata):
        self._note("index")
        index = service_pb2.RepositoryIndexResponse()
        for name, version, state in self.states[0]:
            index.models.add(name=name, version=version, state=state)
        self.states = self.states[1:] or self.states
        return index


@pytest.fixture
def client(monkeypatch):
    fake = FakeServer()
    stubs = SimpleNamespace(GRPCInferenceServiceStub=lambda channel: fake)
    monkeypatch.setattr(triton_server, "service_pb2_grpc", stubs)
    return fake


@pytest.fixture
def again(client, tmp_path):
    """`reload` in a repository with the encoder's folder."""
    (tmp_path / ENCODER.model / "2").mkdir(parents=True)
    return lambda version: reload(Server("127.0.0.1:1"), tmp_path, version)


def test_a_reload_makes_the_folder_newer_and_loads(client, again, tmp_path):
    folder = tmp_path / ENCODER.model / "2"
    before = folder.stat().st_mtime_ns
    again(ENCODER)
    assert folder.stat().st_mtime_ns > before
    assert client.calls == [("load", ENCODER.model)]


def test_a_repository_that_cannot_be_written_to_is_unloaded_first(client, again, monkeypatch):
    def refuse(path):
        raise PermissionError(path)

    monkeypatch.setattr(os, "utime", refuse)
    again(ENCODER)
    assert client.calls == [("unload", ENCODER.model), ("load", ENCODER.model)]


def test_a_version_that_was_taken_away_is_not_loaded(client, again):
    again(ModelVersion(ENCODER.model, 9))
    assert client.calls == []


@pytest.mark.parametrize(
    ("status", "error", "sentence"),
    [
        (grpc.StatusCode.UNAVAILABLE, ServerUnreachable, "no server answers at 127.0.0.1:1"),
        (grpc.StatusCode.INTERNAL, ServerError, "^it is broken$"),
    ],
)
def test_errors_are_one_sentence(client, again, status, error, sentence):
    client.error = Failed(status)
    with pytest.raises(error, match=sentence):
        again(ENCODER)


class FakeQuiet:
    def __init__(self, session):
        pass

    def seconds(self):
        return 0.0


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(drain, "Quiet", FakeQuiet)
    monkeypatch.setattr(drain, "POLL_S", 0.001)
    settings = SimpleNamespace(grpc_url="127.0.0.1:1", repository_dir=tmp_path)
    return SimpleNamespace(pid=7, settings=settings, exit_code=lambda: None)


def test_a_drain_waits_until_the_model_is_unloaded(client, server):
    going, gone = [("text_to_video", "1", "UNLOADING")], [("text_to_video", "1", "UNAVAILABLE")]
    client.states = [[], going, going, gone]
    assert drain.drain(server, 60.0)
    assert client.calls == [("unload", "text_to_video"), *[("index",)] * 3]


def test_a_drain_ends_when_nothing_is_computed_any_more(client, server, monkeypatch):
    client.states = [[], [("text_to_video", "1", "UNLOADING")]]
    assert not drain.drain(server, 0.05)
    client.states = [[], [("text_to_video", "1", "UNLOADING")]]
    monkeypatch.setattr(FakeQuiet, "seconds", lambda self: drain.QUIET_S + 1.0)
    assert drain.drain(server, 60.0)


def test_a_drain_of_a_server_that_is_gone_is_over(client, server):
    client.error = Failed(grpc.StatusCode.UNAVAILABLE)
    server.exit_code = lambda: 137
    assert drain.drain(server, 60.0)


def test_a_drain_of_a_server_that_is_being_started_is_over(tmp_path):
    settings = ServerSettings(tmp_path, tmp_path / "log")
    assert drain.drain(TritonServer(settings), 60.0)


def test_a_drain_asks_a_busy_server_again_until_its_time_is_up(client, server):
    client.error = Failed(grpc.StatusCode.DEADLINE_EXCEEDED)
    assert not drain.drain(server, 0.05)


@pytest.mark.parametrize(
    ("state", "holds"),
    [("READY", True), ("LOADING", True), ("UNLOADING", True), ("UNAVAILABLE", False), ("", False)],
)
def test_only_a_model_that_has_ended_holds_nothing(client, state, holds):
    client.states = [[("text_to_video", "1", state), ("video_unet", "1", "READY")]]
    assert drain._holds_requests(Server("127.0.0.1:1")) == holds
