"""What version 0.1 wrote is read, or refused with a sentence that says what to run.

`version_0_1` holds the records of a repository as 0.1 wrote them, without graphs.
"""

import json
from pathlib import Path

import pytest

from serving_fakes import write_fake_repository
from text_to_video.policies import PolicyPointer
from text_to_video.refusal import Refusal
from unsee.core.errors import InputError
from unsee.export.engines.record import read_choice
from unsee.repository import ledger, pointer
from unsee.repository.base import read_base
from unsee.repository.layout import ENGINES_FILE, base_file
from unsee.repository.revisions import check_files, read_revision

OLD = Path(__file__).parent / "version_0_1"


def test_the_repository_is_refused_in_one_sentence():
    with pytest.raises(InputError) as caught:
        pointer.read(OLD)
    assert str(caught.value) == (
        f"{OLD}/policies.json has the format 1, and this version of Unsee reads 2; restore it, or "
        "export the base to a new folder with: unsee export, and publish its policies again"
    )


def test_the_served_model_does_not_take_it_either():
    with pytest.raises(Refusal, match="cannot read its list of policies") as caught:
        PolicyPointer(OLD).resolve("family", 2)
    assert caught.value.status == "UNAVAILABLE"
    with pytest.raises(ValueError, match="has schema_version 1, not 3"):
        read_base(base_file(OLD))


def test_the_logs_are_read():
    log = ledger.read_log(OLD)
    assert log.broken == ()
    assert {event.action for event in log.events} >= {"publish", "promote", "rollback"}
    assert ledger.last_publish(OLD, "family", 2).forced
    assert [one.kind for one in ledger.last_incidents(OLD, 9)] == ["server", "model"]


def test_the_choice_of_engines_is_made_again():
    assert (OLD / ENGINES_FILE).is_file()
    assert read_choice(OLD / ENGINES_FILE) is None


@pytest.mark.parametrize(
    ("name", "read", "remedy"),
    [
        ("policies.json", pointer.read, "unsee export"),
        (
            "policy_family/2/revision.json",
            lambda folder: read_revision(folder, "family", 2),
            "publish the policy again",
        ),
        (
            "policy_family/2/export.json",
            lambda folder: check_files(folder, "family", 2),
            "publish the policy again",
        ),
    ],
)
def test_a_file_of_another_format_is_refused_with_what_to_do(tmp_path, name, read, remedy):
    repository = write_fake_repository(tmp_path / "repository")
    read(repository)
    file = repository / name
    file.write_text(json.dumps(json.loads(file.read_bytes()) | {"schema_version": 9}))
    words = rf"{name} has the format 9, and this version of Unsee reads \d; .*{remedy}"
    with pytest.raises(InputError, match=words):
        read(repository)
