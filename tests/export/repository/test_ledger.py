"""Pointer and logs: no change without its event, no event of a change not made, whole lines."""

import json
import multiprocessing
import os
from functools import partial

import pytest

from record_fakes import audit_event
from unsee.core.errors import FileNotWritable, InputError
from unsee.repository import ledger, pointer
from unsee.repository.layout import AUDIT_FILE, INCIDENTS_FILE, POINTER_FILE
from unsee.repository.records import Incident, PolicyState

FULL = OSError(28, "No space left on device")
event = partial(audit_event, revision=1)


@pytest.fixture
def repository(tmp_path):
    content = {"schema_version": 2, "default_policy": None, "policies": {}}
    (tmp_path / POINTER_FILE).write_text(json.dumps(content))
    return tmp_path


def add(repository, revision):
    def decide(before):
        state = before.policies.get("family", PolicyState())
        return before.with_state("family", state.with_eligible(revision)), event(revision=revision)

    return ledger.change(repository, decide)


def logged(repository):
    return [event.revision for event in ledger.read_log(repository).events]


def fail(*arguments):
    raise FULL


def test_a_change_is_in_the_pointer_and_in_the_log(repository):
    add(repository, 1)
    add(repository, 2)
    assert pointer.read(repository).state("family").eligible == (1, 2)
    assert logged(repository) == [1, 2]
    assert pointer.read(repository).last_change == ledger.read_log(repository).events[-1]


def test_a_refused_change_leaves_both(repository):
    add(repository, 1)
    before = (repository / POINTER_FILE).read_bytes()

    def refuse(policies):
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        ledger.change(repository, refuse)
    assert (repository / POINTER_FILE).read_bytes() == before
    assert logged(repository) == [1]


def test_a_pointer_that_cannot_be_written_is_as_it_was_and_nothing_is_logged(
    repository, monkeypatch
):
    before = (repository / POINTER_FILE).read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", fail)
        with pytest.raises(FileNotWritable, match=r"policies\.json: No space .* as it was"):
            add(repository, 1)
    assert (repository / POINTER_FILE).read_bytes() == before
    assert logged(repository) == []


def test_a_change_that_the_log_missed_is_said_shown_and_logged_later(repository, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", fail)
        with pytest.raises(FileNotWritable, match=r"the change was made .* No space left"):
            add(repository, 1)
    assert pointer.read(repository).state("family").eligible == (1,)
    assert logged(repository) == []
    assert [event.revision for event in ledger.history(repository).events] == [1]
    add(repository, 2)
    assert logged(repository) == [1, 2]


def test_settling_logs_what_was_missed_once(repository, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", fail)
        with pytest.raises(FileNotWritable):
            add(repository, 1)
    assert ledger.settle(repository)
    assert not ledger.settle(repository)
    assert logged(repository) == [1]


def test_a_log_that_cannot_be_opened_stops_the_change(repository):
    (repository / AUDIT_FILE).mkdir()
    with pytest.raises(FileNotWritable, match=r"audit\.jsonl"):
        add(repository, 1)
    assert pointer.read(repository).policies == {}


def test_what_the_log_missed_goes_before_a_new_change_or_nothing_does(repository, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", fail)
        for revision in (1, 2):
            with pytest.raises(FileNotWritable):
                add(repository, revision)
    assert pointer.read(repository).state("family").eligible == (1,)


def append(folder, *events):
    """Log events in a repository, made if there is none."""
    if not (folder / POINTER_FILE).exists():
        (folder / POINTER_FILE).write_text('{"schema_version": 2}')
    for one in events:
        ledger.note(folder, one)


def test_events_come_back_in_order_with_who_and_when(tmp_path):
    events = [event(), event(action="promote"), event(forced=True, reason="why", unmet=("a", "b"))]
    append(tmp_path, events[0])
    append(tmp_path, *events[1:])
    assert ledger.read_log(tmp_path).events == tuple(events)
    first = ledger.read_log(tmp_path).events[0]
    assert "@" in first.who
    assert first.at.utcoffset().total_seconds() == 0


def test_a_line_is_one_json_object_even_if_the_reason_has_two_lines(tmp_path):
    append(tmp_path, event(forced=True, reason="one\ntwo \u2028 three"))
    (line,) = (tmp_path / AUDIT_FILE).read_bytes().splitlines()
    assert json.loads(line)["reason"] == "one\ntwo \u2028 three"
    assert ledger.read_log(tmp_path).events[0].reason == "one\ntwo \u2028 three"


def test_no_log_means_no_events(tmp_path):
    assert ledger.read_log(tmp_path) == ledger.Log(())


def test_what_is_written_is_on_the_disk_before_the_call_returns(tmp_path, monkeypatch):
    synced = []
    append(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_size))
    append(tmp_path, event())
    assert synced[-1] == (tmp_path / AUDIT_FILE).stat().st_size


def test_a_line_that_a_crash_cut_off_does_not_swallow_the_next_one(tmp_path):
    append(tmp_path, event(encoder_digest="sha256:old"))
    file = tmp_path / AUDIT_FILE
    with file.open("ab") as stream:
        stream.write(b'{"at": "2026-')
    append(tmp_path, event(action="promote"))
    assert len(file.read_bytes().splitlines()) == 3
    log = ledger.read_log(tmp_path)
    assert [event.action for event in log.events] == ["publish", "promote"]
    assert log.broken == (2,)
    assert ledger.last_publish(tmp_path, "family", 1).encoder_digest == "sha256:old"


def test_the_latest_publication_of_a_revision_is_found(tmp_path):
    append(
        tmp_path,
        event(report_digest="sha256:1"),
        event(report_digest="sha256:2"),
        event(revision=2),
        event(policy="studio-x"),
    )
    assert ledger.last_publish(tmp_path, "family", 1).report_digest == "sha256:2"
    assert ledger.last_publish(tmp_path, "family", 3) is None


def test_a_line_that_does_not_fit_on_the_disk_leaves_the_log_as_it_was(tmp_path, monkeypatch):
    append(tmp_path, event())
    before = (tmp_path / AUDIT_FILE).read_bytes()
    write = os.write

    def fill_up(descriptor, data):
        if len(data) > 10:
            return write(descriptor, data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", lambda fd, data: fill_up(fd, data[: len(data) - 10]))
    with pytest.raises(FileNotWritable, match="No space left on device"):
        append(tmp_path, event(action="promote"))
    assert (tmp_path / AUDIT_FILE).read_bytes() == before


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
    events = ledger.read_log(tmp_path).events
    for policy in ("a", "b", "c"):
        assert [e.revision for e in events if e.policy == policy] == list(range(1, 21))


def incident(what):
    return Incident(server="127.0.0.1:1", kind="server", outcome="repaired", seconds=1.0, what=what)


def test_incidents_are_read_newest_first_and_broken_lines_passed_over(tmp_path):
    assert ledger.last_incidents(tmp_path, 5) == []
    for number in range(4):
        ledger.note_incident(tmp_path, incident(f"number {number}"))
        with (tmp_path / INCIDENTS_FILE).open("a") as file:
            file.write('{"at": "cut off\n')
    assert [found.what for found in ledger.last_incidents(tmp_path, 3)] == [
        "number 3",
        "number 2",
        "number 1",
    ]


def test_a_file_of_incidents_that_cannot_be_read_is_one_sentence(tmp_path):
    (tmp_path / INCIDENTS_FILE).mkdir()
    with pytest.raises(InputError, match=r"cannot read .*incidents\.jsonl"):
        ledger.last_incidents(tmp_path, 1)
