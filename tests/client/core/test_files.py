"""Files and folders appear whole or not at all, and one writer at a time."""

from __future__ import annotations

import threading

import pytest

from unsee.core.files import UNFINISHED, locked, new_folder, write_file


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
