"""What killed commands have left is put right before Triton starts, from the files alone."""

import json
import os
import subprocess
import sys

import pytest

from killed_command import unsee
from publish_fakes import FakeTriton, write_next_revision, write_repository
from report_fakes import fake_report
from unsee.core.errors import RevisionUnfit
from unsee.policies.recovery import put_in_order
from unsee.repository import ledger, pointer
from unsee.repository.layout import HEARTBEAT_FILE, REJECTED, RETIRED

pytestmark = pytest.mark.process

MODEL = "policy_family"
HOLDER = """
import sys, pathlib
from unsee.policies.lock import alone
with alone(pathlib.Path(sys.argv[1]), "family", "publish"):
    print(flush=True)
    input()
"""


@pytest.fixture
def repository(tmp_path):
    return write_repository(tmp_path / "repository", family=2)


def told(repository):
    sentences = []
    put_in_order(repository, sentences.append)
    return sentences


def contents(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def versions(repository):
    return {path.name for path in (repository / MODEL).iterdir() if path.name.isdigit()}


def killed(repository, folder, command, step):
    """`unsee publish` or `retire`, killed before its step of that number; None: not at all."""
    triton = FakeTriton(repository)
    concept = {"concept": "Blimbo", "category": "character", "delta": "blimbo"}
    (folder / "blimbo").mkdir(exist_ok=True)
    (folder / "family.yaml").write_text(json.dumps({"name": "family", "unsee": [concept]}))
    (folder / "report.json").write_text(fake_report().model_dump_json())
    options = {
        "publish": (folder / "family.yaml", "--base", "b", "--report", folder),
        "retire": ("family", "1"),
    }[command]
    places = ("--repository", repository)
    places += ("--url", triton.url) if command == "publish" else ()
    try:
        return unsee(command, *options, *places, kill_at=step)
    finally:
        triton.stop()


@pytest.mark.parametrize("command", ["publish", "retire"])
def test_after_a_kill_at_any_step_triton_finds_what_is_offered_and_nothing_else(tmp_path, command):
    def made(name):
        folder = tmp_path / name
        folder.mkdir()
        return write_repository(folder / "repository", family=2), folder

    found = set()
    for step in range(1, 1 + len(killed(*made("undisturbed"), command, None).steps)):
        repository, folder = made(str(step))
        killed(repository, folder, command, step)
        sentences = told(repository)
        assert versions(repository) == set(
            map(str, pointer.read(repository).state("family").eligible)
        )
        assert not list((repository / MODEL).glob(".unfinished-*"))
        assert not ledger.has_missed(repository)
        assert told(repository) == []
        found.update(sentence.partition(":")[0] for sentence in sentences)
    archive, revision = (REJECTED, 3) if command == "publish" else (RETIRED, 1)
    assert f'revision {revision} of the policy "family" was moved to {archive}' in found
    assert "logged a change of the pointer that the audit log had missed" in found


def test_a_repository_in_order_is_not_written_to(repository):
    before = contents(repository)
    assert told(repository) == []
    assert contents(repository) == before


def test_a_policy_that_a_command_works_on_is_left_alone(repository):
    write_next_revision(repository, "family")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", HOLDER, repository]
    with subprocess.Popen(command, env=environment, **pipes) as holder:
        holder.stdout.readline()
        (sentence,) = told(repository)
    assert f"(unsee publish, process {holder.pid}, since 20" in sentence
    assert sentence.startswith('the policy "family" is being changed by ')
    assert sentence.endswith(": it is left as it is")
    assert versions(repository) == {"1", "2", "3"}
    told(repository)
    assert versions(repository) == {"1", "2"}


def test_the_copies_of_a_follower_are_its_own_business(repository):
    write_next_revision(repository, "family")
    (repository / HEARTBEAT_FILE).touch()
    before = contents(repository)
    assert told(repository) == []
    assert contents(repository) == before


def test_what_cannot_be_written_is_told_and_nothing_fails(repository):
    write_next_revision(repository, "family")
    (repository / ".locks").write_text("no folder")
    (sentence,) = told(repository)
    assert sentence.startswith('warning: what an interrupted command has left of the policy "fami')
    assert versions(repository) == {"1", "2", "3"}


def test_an_active_revision_that_was_changed_is_not_served(repository):
    (repository / MODEL / "2" / "model.onnx").write_bytes(b"good but changed")
    with pytest.raises(
        RevisionUnfit, match=r'revision 2 of the policy "family" is active'
    ) as error:
        told(repository)
    assert "unsee rollback family --reason" in str(error.value)
    assert "\n" not in str(error.value)


def test_one_that_is_not_active_does_not_keep_the_service_from_starting(repository):
    (repository / MODEL / "1" / "model.onnx").write_bytes(b"good but changed")
    assert told(repository) == []
