"""The audit log: only appended, whole lines, whoever writes and whatever was cut off."""

import json
import multiprocessing
import os

import pytest

from unsee.core.errors import FileNotWritable
from unsee.repository import audit
from unsee.repository.audit import AuditEvent


def event(**changes):
    fields = {
        "action": "publish",
        "policy": "family",
        "revision": 1,
        "encoder_digest": "sha256:e",
        "report_digest": None,
    }
    return AuditEvent(**(fields | changes))


def append(folder, *events):
    with audit.appending(folder) as write:
        for one in events:
            write(one)


def test_events_come_back_in_order_with_who_and_when(tmp_path):
    events = [event(), event(action="promote"), event(forced=True, reason="why", unmet=("a", "b"))]
    append(tmp_path, events[0])
    append(tmp_path, *events[1:])
    assert audit.read(tmp_path).events == tuple(events)
    first = audit.read(tmp_path).events[0]
    assert "@" in first.who
    assert first.at.utcoffset().total_seconds() == 0


def test_a_line_is_one_json_object_even_if_the_reason_has_two_lines(tmp_path):
    append(tmp_path, event(forced=True, reason="one\ntwo \u2028 three"))
    (line,) = (tmp_path / audit.AUDIT_FILE).read_bytes().splitlines()
    assert json.loads(line)["reason"] == "one\ntwo \u2028 three"
    assert audit.read(tmp_path).events[0].reason == "one\ntwo \u2028 three"


def test_no_log_means_no_events(tmp_path):
    assert audit.read(tmp_path) == audit.Log(())


def test_what_is_written_is_on_the_disk_before_the_call_returns(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_size))
    with audit.appending(tmp_path) as write:
        synced.clear()
        write(event())
        assert synced == [(tmp_path / audit.AUDIT_FILE).stat().st_size]


def test_a_line_that_a_crash_cut_off_does_not_swallow_the_next_one(tmp_path):
    append(tmp_path, event(encoder_digest="sha256:old"))
    file = tmp_path / audit.AUDIT_FILE
    with file.open("ab") as stream:
        stream.write(b'{"at": "2026-')
    append(tmp_path, event(action="promote"))
    assert len(file.read_bytes().splitlines()) == 3
    log = audit.read(tmp_path)
    assert [event.action for event in log.events] == ["publish", "promote"]
    assert log.broken == (2,)
    assert audit.last_publish(tmp_path, "family", 1).encoder_digest == "sha256:old"


def test_the_latest_publication_of_a_revision_is_found(tmp_path):
    append(
        tmp_path,
        event(report_digest="sha256:1"),
        event(report_digest="sha256:2"),
        event(revision=2),
        event(policy="studio-x"),
    )
    assert audit.last_publish(tmp_path, "family", 1).report_digest == "sha256:2"
    assert audit.last_publish(tmp_path, "family", 3) is None


def test_a_log_that_cannot_be_written_stops_the_work_before_it_begins(tmp_path):
    with pytest.raises(FileNotWritable, match=r"cannot write .*audit\.jsonl"):
        append(tmp_path / "nowhere", event())


def test_a_line_that_does_not_fit_on_the_disk_leaves_the_log_as_it_was(tmp_path, monkeypatch):
    append(tmp_path, event())
    before = (tmp_path / audit.AUDIT_FILE).read_bytes()
    write = os.write

    def fill_up(descriptor, data):
        if len(data) > 10:
            return write(descriptor, data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", lambda fd, data: fill_up(fd, data[: len(data) - 10]))
    with pytest.raises(FileNotWritable, match="No space left on device"):
        append(tmp_path, event(action="promote"))
    assert (tmp_path / audit.AUDIT_FILE).read_bytes() == before


def append_many(folder, policy):
    for revision in range(1, 21):
        append(folder, event(policy=policy, revision=revision, unmet=("x" * 3000,)))


@pytest.mark.process
def test_writers_in_several_processes_lose_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=append_many, args=(tmp_path, p)) for p in ("a", "b", "c")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    events = audit.read(tmp_path).events
    for policy in ("a", "b", "c"):
        assert [e.revision for e in events if e.policy == policy] == list(range(1, 21))
