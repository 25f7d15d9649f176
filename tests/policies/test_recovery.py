"""What an interrupted command leaves is found, said, and put right; all else is left alone."""

import os

from publish_fakes import fill_revision, write_next_revision
from unsee.policies.recovery import repair
from unsee.repository import ledger, pointer
from unsee.repository.layout import REJECTED
from unsee.triton.server import Server

MODEL = "policy_family"


def test_a_repository_in_order_is_left_as_it_is(repository, triton):
    before = sorted(repository.rglob("*"))
    result = repair(repository, Server(triton.url))
    assert (result.done, result.remaining) == ((), ())
    made = {".locks", "base", "family", "studio", "audit.jsonl", ".policies.json.lock"}
    assert {path.name for path in set(repository.rglob("*")) - set(before)} <= made
    assert {name for name, *_ in triton.calls} == {"probe"}


def test_a_revision_that_was_never_made_eligible_goes_to_the_rejected(repository, triton):
    write_next_revision(repository, "family")
    result = repair(repository, Server(triton.url))
    assert result.done == (
        f'revision 3 of the policy "family" was moved to {REJECTED}: '
        "left by an interrupted command",
    )
    assert (repository / REJECTED / MODEL / "3" / "model.onnx").is_file()
    (event,) = ledger.read_log(repository).events
    assert (event.action, event.revision) == ("repair", 3)


def test_the_first_revision_of_a_policy_that_never_came_to_be(repository, triton):
    write_next_revision(repository, "kids")
    repair(repository, Server(triton.url))
    assert (repository / REJECTED / "policy_kids" / "1" / "model.onnx").is_file()
    assert "kids" not in pointer.read(repository).policies


def test_a_number_that_the_archive_holds_already_gets_a_suffix(repository, triton):
    for name in ("3", "3.2"):
        (repository / REJECTED / MODEL / name).mkdir(parents=True)
    version_dir = repository / MODEL / "3"
    version_dir.mkdir()
    fill_revision(version_dir, "family", 3)
    repair(repository, Server(triton.url))
    assert (repository / REJECTED / MODEL / "3.3" / "model.onnx").is_file()


def test_unfinished_folders_are_removed(repository, triton):
    (repository / MODEL / ".unfinished-1").mkdir()
    result = repair(repository, Server(triton.url))
    assert result.done == ('removed an unfinished export of the policy "family"',)
    assert not (repository / MODEL / ".unfinished-1").exists()


def test_a_dead_process_of_the_policies_is_replaced(repository, triton):
    triton.dead = True
    result = repair(repository, Server(triton.url))
    assert result.done == (
        "the process of prompt_encoder, version 1 did not answer and was replaced",
    )
    assert result.remaining == ()
    assert triton.calls[0] == ("load", "prompt_encoder")


def test_a_revision_that_answers_otherwise_is_named_and_nothing_is_replaced(repository, triton):
    (repository / MODEL / "1" / "model.onnx").unlink()
    fill_revision(repository / MODEL / "1", "family", 1, "wrong")
    result = repair(repository, Server(triton.url))
    (sentence,) = result.remaining
    assert sentence.startswith('revision 1 of the policy "family": its answer differs')
    assert result.done == ()
    assert ("load", "prompt_encoder") not in triton.calls


def test_a_damaged_revision_is_named_and_left(repository, triton):
    file = repository / MODEL / "1" / "model.onnx"
    stat = file.stat()
    file.write_bytes(b"good but changed")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (sentence,) = repair(repository, Server(triton.url)).remaining
    assert "1/model.onnx has the digest" in sentence
    assert file.read_bytes() == b"good but changed"


def test_without_a_server_the_files_are_put_right_all_the_same(repository):
    write_next_revision(repository, "family")
    result = repair(repository, Server("127.0.0.1:9"))
    assert not (repository / MODEL / "3").exists()
    (sentence,) = result.remaining
    assert "no server answers at 127.0.0.1:9" in sentence
