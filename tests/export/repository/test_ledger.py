"""Pointer and audit log together: no change without its event, no event of a change not made."""

import json
import os

import pytest

from unsee.core.errors import FileNotWritable, InputError
from unsee.repository import audit, ledger, pointer
from unsee.repository.audit import AuditEvent

FULL = OSError(28, "No space left on device")


@pytest.fixture
def repository(tmp_path):
    content = {"schema_version": 1, "default_policy": None, "policies": {}}
    (tmp_path / pointer.POINTER_FILE).write_text(json.dumps(content))
    return tmp_path


def add(repository, revision):
    def decide(before):
        event = AuditEvent(
            action="publish",
            policy="family",
            revision=revision,
            encoder_digest=None,
            report_digest=None,
        )
        state = before.policies.get("family", pointer.PolicyState())
        return before.with_state("family", state.with_eligible(revision)), event

    return ledger.change(repository, decide)


def logged(repository):
    return [event.revision for event in audit.read(repository).events]


def fail(*arguments):
    raise FULL


def test_a_change_is_in_the_pointer_and_in_the_log(repository):
    add(repository, 1)
    add(repository, 2)
    assert pointer.read(repository).state("family").eligible == (1, 2)
    assert logged(repository) == [1, 2]
    assert pointer.read(repository).last_change == audit.read(repository).events[-1]


def test_a_refused_change_leaves_both(repository):
    add(repository, 1)
    before = (repository / pointer.POINTER_FILE).read_bytes()

    def refuse(policies):
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        ledger.change(repository, refuse)
    assert (repository / pointer.POINTER_FILE).read_bytes() == before
    assert logged(repository) == [1]


def test_a_pointer_that_cannot_be_written_is_as_it_was_and_nothing_is_logged(
    repository, monkeypatch
):
    before = (repository / pointer.POINTER_FILE).read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", fail)
        with pytest.raises(FileNotWritable, match=r"policies\.json: No space .* as it was"):
            add(repository, 1)
    assert (repository / pointer.POINTER_FILE).read_bytes() == before
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
    (repository / audit.AUDIT_FILE).mkdir()
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
