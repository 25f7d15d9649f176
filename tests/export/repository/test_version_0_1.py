"""What version 0.1 wrote is read, or refused with a sentence that says what to run.

`version_0_1` holds the records of a repository as 0.1 wrote them, without graphs.
"""

import json
import shutil
from pathlib import Path

import pytest

from text_to_video.policies import PolicyPointer
from unsee.core.errors import InputError
from unsee.export.engines.record import read_choice
from unsee.repository import ledger, pointer
from unsee.repository.base import read_base
from unsee.repository.layout import AUDIT_FILE, ENGINES_FILE, EXPORT_FILE, base_file, revision_dir
from unsee.repository.records import GraphExport, read_record
from unsee.repository.revisions import check_files, read_revision


@pytest.fixture
def repository(tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(Path(__file__).parent / "version_0_1", tmp_path / "repository")


def test_pointer_and_logs_are_read_and_go_on(repository):
    state = pointer.read(repository).state("family")
    assert (state.active, state.eligible, state.retired) == (3, (2, 3), (1,))
    log = ledger.history(repository)
    assert (len(log.events), log.broken) == (10, ())
    assert not ledger.has_missed(repository)
    assert ledger.last_publish(repository, "family", 2).forced
    assert [one.kind for one in ledger.last_incidents(repository, 9)] == ["server", "model"]

    before = (repository / AUDIT_FILE).read_bytes()

    def go_back(policies):
        event = ledger.event_of(repository, "rollback", "family", 2, reason="why")
        return policies.with_state("family", state.with_rollback(2)), event

    ledger.change(repository, go_back)
    after = (repository / AUDIT_FILE).read_bytes()
    assert after.startswith(before)
    assert len(after.splitlines()) == 11
    assert pointer.read(repository).state("family").active == 2


def test_a_pointer_of_before_the_first_change_is_read(repository):
    policies = json.loads((repository / "policies.json").read_bytes())
    state = {"active": 1, "eligible": [1], "history": [1]}
    first = {"schema_version": 1, "default_policy": None, "policies": {"base": state}}
    (repository / "policies.json").write_text(json.dumps(first))
    assert pointer.read(repository).state("base").active == 1
    assert policies.keys() == {*first, "last_change"}


def test_revisions_and_base_are_read(repository):
    record = read_revision(repository, "family", 2)
    assert [(c.name, c.aliases) for c in record.concepts] == [("Blimbo", ("the blue one",))]
    file = revision_dir(repository, "family", 2) / EXPORT_FILE
    assert read_record(GraphExport, file, "").sha256 == record.encoder_digest
    assert read_base(base_file(repository)).limits.prompt_tokens == 48
    found = PolicyPointer(repository).resolve("family", 2)
    assert (found.model_name, found.digest) == ("text_encoder_family", record.encoder_digest)


def test_the_choice_of_engines_is_made_again(repository):
    assert (repository / ENGINES_FILE).is_file()
    assert read_choice(repository / ENGINES_FILE) is None


@pytest.mark.parametrize(
    ("name", "read", "remedy"),
    [
        ("policies.json", pointer.read, "unsee export"),
        (
            "text_encoder_family/2/revision.json",
            lambda folder: read_revision(folder, "family", 2),
            "publish the policy again",
        ),
        (
            "text_encoder_family/2/export.json",
            lambda folder: check_files(folder, "family", 2),
            "publish the policy again",
        ),
    ],
)
def test_a_file_of_another_format_is_refused_with_what_to_do(repository, name, read, remedy):
    file = repository / name
    file.write_text(json.dumps(json.loads(file.read_bytes()) | {"schema_version": 9}))
    words = rf"{name} has the format 9, and this version of Unsee reads \d; .*{remedy}"
    with pytest.raises(InputError, match=words):
        read(repository)
