"""policies.json as the server reads it: resolved per request, read again when it has changed."""

import json

import pytest

from serving_fakes import write_fake_repository
from text_to_video.policies import PolicyPointer, Revision
from text_to_video.refusal import Refusal


@pytest.fixture
def repository(tmp_path):
    return write_fake_repository(tmp_path / "repository")


def rewrite(repository, change):
    file = repository / "policies.json"
    record = json.loads(file.read_text())
    change(record)
    temporary = repository / ".policies.json.new"
    temporary.write_text(json.dumps(record))
    temporary.replace(file)


def test_the_active_revision_is_the_answer_until_it_moves(repository):
    pointer = PolicyPointer(repository)
    found = pointer.resolve("family", None)
    assert found == Revision("family", 1, "sha256:edit 1 of family")
    rewrite(repository, lambda record: record["policies"]["family"].update(active=2))
    moved = pointer.resolve("family", None)
    assert moved == Revision("family", 2, "sha256:edit 2 of family")


def test_a_request_may_name_any_eligible_revision(repository):
    assert PolicyPointer(repository).resolve("family", 2).number == 2


def test_the_default_policy_is_for_those_who_name_none(repository):
    rewrite(repository, lambda record: record.update(default_policy="family"))
    assert PolicyPointer(repository).resolve(None, None).policy == "family"


@pytest.mark.parametrize(
    ("policy", "revision", "status", "sentence"),
    [
        (None, None, "INVALID_ARGUMENT", "name a policy; this server has base, family"),
        ("studio", None, "NOT_FOUND", "no policy 'studio'; this server has base, family"),
        ("../base", None, "NOT_FOUND", "no policy '../base'"),
        ("family", 3, "NOT_FOUND", "family has no revision 3; it offers 1, 2"),
    ],
)
def test_what_is_not_there_is_refused(repository, policy, revision, status, sentence):
    with pytest.raises(Refusal, match=sentence) as caught:
        PolicyPointer(repository).resolve(policy, revision)
    assert caught.value.status == status


def test_a_policy_without_an_active_revision_is_unavailable(repository):
    rewrite(repository, lambda record: record["policies"]["family"].update(active=None))
    with pytest.raises(Refusal, match="no active revision yet") as caught:
        PolicyPointer(repository).resolve("family", None)
    assert caught.value.status == "UNAVAILABLE"


@pytest.mark.parametrize("content", [None, "{", "[]", '{"schema_version": 2}'])
def test_a_broken_pointer_file_is_unavailable_and_then_not(repository, content):
    file = repository / "policies.json"
    whole = file.read_text()
    pointer = PolicyPointer(repository)
    pointer.resolve("base", None)
    file.unlink()
    if content is not None:
        file.write_text(content)
    with pytest.raises(Refusal, match="cannot read its list of policies") as caught:
        pointer.resolve("base", None)
    assert caught.value.status == "UNAVAILABLE"
    file.write_text(whole)
    assert pointer.resolve("base", None).number == 1


def test_what_edits_nothing_or_has_no_record_has_no_digest(repository):
    assert PolicyPointer(repository).resolve("base", None).edit_digest is None
    (repository / "policy_family" / "1" / "revision.json").unlink()
    assert PolicyPointer(repository).resolve("family", None).edit_digest is None
