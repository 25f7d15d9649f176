"""Estimates as TensorBoard scalars, read back from the event files."""

import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from unsee.core.errors import InputError
from unsee.jobs.tensorboard_log import tensorboard_log
from unsee.unlearning.estimate import Estimate


def _events(folder: Path) -> list[object]:
    """The events of a folder's files: each record is length, checksum, message, checksum."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    events = []
    for file in sorted(folder.iterdir()):
        content = file.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            events.append(event_pb2.Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return events


def _scalars(folder: Path) -> list[tuple[int, str, float]]:
    return [
        (event.step, value.tag, round(value.simple_value, 4))  # type: ignore[attr-defined]
        for event in _events(folder)
        for value in event.summary.value  # type: ignore[attr-defined]
    ]


def test_every_estimate_is_written(tmp_path: Path) -> None:
    with tensorboard_log(tmp_path / "log") as write:
        assert not (tmp_path / "log").exists()
        write(Estimate(1, 2, loss=0.5, erased=0.25, kept=0.99))
        write(Estimate(2, 2, loss=0.25))
    assert _scalars(tmp_path / "log") == [
        (1, "loss", 0.5),
        (1, "erased", 0.25),
        (1, "kept", 0.99),
        (2, "loss", 0.25),
    ]


def test_an_error_does_not_lose_what_was_written(tmp_path: Path) -> None:
    def fail_after(write: Callable[[Estimate], None]) -> None:
        write(Estimate(1, 2, loss=0.5))
        raise RuntimeError

    with pytest.raises(RuntimeError), tensorboard_log(tmp_path) as write:
        fail_after(write)
    assert _scalars(tmp_path) == [(1, "loss", 0.5)]


def test_a_resumed_run_hides_what_it_repeats(tmp_path: Path) -> None:
    with tensorboard_log(tmp_path) as write:
        write(Estimate(7, 9, loss=0.5))
    starts = [
        event.session_log.status  # type: ignore[attr-defined]
        for event in _events(tmp_path)
        if event.step == 7 and event.HasField("session_log")  # type: ignore[attr-defined]
    ]
    assert starts == [1]  # SessionLog.START: a reader drops earlier events from this step on


def test_the_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with (
        pytest.raises(InputError, match=r'pip install "unsee\[train,tensorboard\]"'),
        tensorboard_log(tmp_path),
    ):
        pass
