"""A process that is replaced: its model is loaded again."""

import os

import pytest

from unsee.triton.reload import reload
from unsee.triton.server import ModelVersion

HOST = ModelVersion("prompt_encoder", 1)


class FakeServer:
    """Writes down its calls."""

    def __init__(self):
        self.calls = []

    def load(self, model):
        self.calls.append(("load", model))

    def unload(self, model, timeout_s):
        self.calls.append(("unload", model))


@pytest.fixture
def server():
    return FakeServer()


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / HOST.model / "1"
    folder.mkdir(parents=True)
    return folder


def test_a_reload_makes_the_folder_newer_and_loads(server, tmp_path, folder):
    before = folder.stat().st_mtime_ns
    reload(server, tmp_path, HOST)
    assert folder.stat().st_mtime_ns > before
    assert server.calls == [("load", HOST.model)]


def test_a_repository_that_cannot_be_written_to_is_unloaded_first(
    server, tmp_path, folder, monkeypatch
):
    def refuse(path):
        raise PermissionError(path)

    monkeypatch.setattr(os, "utime", refuse)
    reload(server, tmp_path, HOST)
    assert server.calls == [("unload", HOST.model), ("load", HOST.model)]


def test_a_version_that_was_taken_away_is_not_loaded(server, tmp_path, folder):
    reload(server, tmp_path, ModelVersion(HOST.model, 9))
    assert server.calls == []
