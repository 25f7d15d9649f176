"""Files and folders appear whole or not at all, and one writer at a time."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from unsee.core import files
from unsee.core.errors import FileNotWritable, Locked
from unsee.core.files import (
    UNFINISHED,
    lock,
    locked,
    new_folder,
    user_at_host,
    write_file,
)


def test_a_file_is_only_written_when_it_changes(tmp_path):
    file = tmp_path / "deep" / "config.pbtxt"
    assert write_file(file, b"one")
    before = file.stat().st_mtime_ns
    assert not write_file(file, b"one")
    assert file.stat().st_mtime_ns == before
    assert write_file(file, b"two")
    assert [path.name for path in file.parent.iterdir()] == ["config.pbtxt"]


def test_a_failed_folder_leaves_nothing(tmp_path):
    def write_half():
        with new_folder(tmp_path / "1") as folder:
            (folder / "half").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_a_failed_replacement_leaves_the_old_folder(tmp_path):
    with new_folder(tmp_path / "1") as folder:
        (folder / "old").touch()
    with pytest.raises(RuntimeError), new_folder(tmp_path / "1", replace=True):
        raise RuntimeError
    assert (tmp_path / "1" / "old").exists()
    with new_folder(tmp_path / "1", replace=True) as folder:
        (folder / "new").touch()
    assert [path.name for path in (tmp_path / "1").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_an_existing_folder_is_not_overwritten(tmp_path):
    with new_folder(tmp_path / "1") as folder:
        (folder / "first").touch()
    with pytest.raises(OSError, match="not empty"), new_folder(tmp_path / "1") as folder:
        (folder / "second").touch()
    assert (tmp_path / "1" / "first").exists()


def test_the_lock_removes_what_an_interrupted_writer_left(tmp_path):
    leftover = tmp_path / f"{UNFINISHED}abc"
    leftover.mkdir()
    (leftover / "model.onnx").write_bytes(b"half")
    with locked(tmp_path):
        assert not leftover.exists()


def test_the_lock_lets_in_one_thread_at_a_time(tmp_path):
    inside, most = [], []

    def enter():
        for _ in range(20):
            with locked(tmp_path):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1


def full_disk(*arguments):
    raise OSError(28, "No space left on device")


def test_a_full_disk_names_the_file_what_was_needed_and_what_is_free(tmp_path, monkeypatch):
    file = tmp_path / "report.json"
    file.write_text("old")
    monkeypatch.setattr(files.os, "fsync", full_disk)
    free = SimpleNamespace(free=20_000)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: free)
    words = rf"cannot write {file}: No space left on device \(100 KB needed, 20\.0 KB free\)"
    with pytest.raises(FileNotWritable, match=words):
        write_file(file, b"x" * 100_000)
    assert file.read_text() == "old"
    words = rf"{tmp_path}/1: No space .* \(20\.0 KB free\)"
    with pytest.raises(FileNotWritable, match=words), new_folder(tmp_path / "1") as folder:
        (folder / "half").touch()
    assert list(tmp_path.iterdir()) == [file]


def test_a_replacement_that_cannot_take_its_place_leaves_the_old_folder(tmp_path, monkeypatch):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "old").touch()
    rename = Path.rename

    def refuse_the_new_one(path, target):
        if target.name == "1" and not path.name.endswith("-old"):
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse_the_new_one)
    with pytest.raises(PermissionError), new_folder(tmp_path / "1", replace=True):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert (tmp_path / "1" / "old").exists()


def test_whoever_does_not_wait_is_told_who_holds_a_lock(tmp_path):
    file = tmp_path / "lock"
    with lock(file, command="unsee retire"):
        assert file.read_text() == f"{user_at_host()} (unsee retire)"
        other = lock(file, command="unsee publish", what="the policy")
        words = r"the policy is being changed by .*@.* \(unsee retire\)"
        with pytest.raises(Locked, match=words), other:
            pass
    with lock(file, command="unsee publish"):
        assert file.read_text() == f"{user_at_host()} (unsee publish)"
