"""Versions of a model: stand-ins that a command has left, and a process that is replaced."""

import os

import pytest

from unsee.repository.layout import stand_in_dirs
from unsee.triton.server import ModelVersion
from unsee.triton.versions import reload, remove_stand_ins

ENCODER = ModelVersion("text_encoder_family", 2)


@pytest.mark.parametrize("neighbour", ["family-kids", "family-2", "fam"])
def test_stand_ins_of_a_policy_whose_name_begins_alike_are_left_alone(tmp_path, neighbour):
    own = tmp_path / ".stand-in-text_encoder_family-3"
    other = tmp_path / f".stand-in-text_encoder_{neighbour}-3"
    for folder in (own, other):
        folder.mkdir()
    model_dir = tmp_path / "text_encoder_family"
    assert stand_in_dirs(model_dir) == [own]
    remove_stand_ins(model_dir)
    assert not own.exists()
    assert other.exists()
    assert stand_in_dirs(model_dir) == []


class FakeServer:
    """Writes down its calls."""

    def __init__(self):
        self.calls = []

    def refresh(self, model):
        self.calls.append(("refresh", model))

    def unload(self, model, timeout_s):
        self.calls.append(("unload", model))


@pytest.fixture
def server():
    return FakeServer()


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / ENCODER.model / "2"
    folder.mkdir(parents=True)
    return folder


def test_a_reload_makes_the_folder_newer_and_loads(server, tmp_path, folder):
    before = folder.stat().st_mtime_ns
    reload(server, tmp_path, ENCODER)
    assert folder.stat().st_mtime_ns > before
    assert server.calls == [("refresh", ENCODER.model)]


def test_a_repository_that_cannot_be_written_to_is_unloaded_first(
    server, tmp_path, folder, monkeypatch
):
    def refuse(path):
        raise PermissionError(path)

    monkeypatch.setattr(os, "utime", refuse)
    reload(server, tmp_path, ENCODER)
    assert server.calls == [("unload", ENCODER.model), ("refresh", ENCODER.model)]


def test_a_version_that_was_taken_away_is_not_loaded(server, tmp_path, folder):
    reload(server, tmp_path, ModelVersion(ENCODER.model, 9))
    assert server.calls == []
