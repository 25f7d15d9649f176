"""Publishing with stand-ins for Triton, base and exporter: order, refusals, what is taken back."""

import json
import multiprocessing
from types import SimpleNamespace

import pytest

from record_fakes import base_record
from unsee.core.errors import (
    FileNotWritable,
    InputError,
    Locked,
    ServerError,
    ServerUnreachable,
)
from unsee.policies.composed_policy import check_same_base
from unsee.policies.lock import alone
from unsee.repository import ledger, pointer
from unsee.repository.layout import POINTER_FILE, REJECTED

MODEL = "policy_kids"


def versions(repository):
    return sorted(path.name for path in (repository / MODEL).iterdir() if path.name.isdigit())


def test_a_revision_is_probed_and_then_eligible(files, triton, publish_kids):
    result = publish_kids()
    assert (result.policy, result.revision, result.active) == ("kids", 1, False)
    assert triton.calls == [("probe", "kids", 1)]
    state = pointer.read(files.repository).state("kids")
    assert (state.active, state.eligible) == (None, (1,))


def test_promote_also_makes_it_active(files, publish_kids):
    assert publish_kids(promote=True).active
    assert pointer.read(files.repository).state("kids").active == 1


def test_without_a_server_the_slow_work_is_not_begun(files, publish_kids):
    with pytest.raises(ServerUnreachable):
        publish_kids(url="127.0.0.1:9")
    assert files.composed == 0


def test_without_a_repository_the_slow_work_is_not_begun(files, publish_kids):
    (files.repository / POINTER_FILE).unlink()
    with pytest.raises(InputError, match="unsee export"):
        publish_kids()
    assert files.composed == 0


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        ("broken", "of the policy kids cannot be opened"),
        ("wrong", "differs from the recorded one by 0.5"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_bad_revision_is_kept_as_rejected_and_the_service_is_as_before(
    files, triton, publish_kids, graph, words, first
):
    if not first:
        publish_kids(promote=True)
    before = pointer.read(files.repository)
    left = [] if first else ["1"]
    files.graph = graph
    with pytest.raises(ServerError, match=words) as caught:
        publish_kids(promote=True)
    number = len(left) + 1
    assert f'revision {number} of the policy "kids" was taken back' in str(caught.value)
    assert pointer.read(files.repository) == before
    assert versions(files.repository) == left
    kept = files.repository / REJECTED / MODEL
    assert [path.name for path in kept.iterdir()] == [str(number)]
    assert (kept / str(number) / "revision.json").is_file()
    event = ledger.read_log(files.repository).events[-1]
    assert (event.action, event.revision, event.outcome) == ("reject", number, "taken back")
    assert words in event.reason
    assert all(name == "probe" for name, *_ in triton.calls)


def test_a_rejected_number_is_not_given_again(files, publish_kids):
    files.graph = "broken"
    with pytest.raises(ServerError):
        publish_kids()
    files.graph = "good"
    assert publish_kids().revision == 2


def test_a_server_that_goes_away_is_one_sentence(files, triton, publish_kids):
    export = files.export

    def stop_the_server(*arguments):
        triton.stop()
        return export(*arguments)

    files.export = stop_the_server
    with pytest.raises(ServerError, match="no server answers at"):
        publish_kids()
    assert versions(files.repository) == []


@pytest.mark.parametrize("content", [None, "{", "{}", json.dumps(base_record())])
def test_a_repository_of_another_base_is_refused(files, content):
    file = files.repository / "text_to_video" / "assets" / "base.json"
    file.unlink() if content is None else file.write_text(content)
    base = SimpleNamespace(name="tiny", digest=lambda: "sha256:this")
    with pytest.raises(InputError):
        check_same_base(base, files.repository)


def test_the_repository_of_the_same_base_is_accepted(files):
    file = files.repository / "text_to_video" / "assets" / "base.json"
    file.write_text(json.dumps(base_record(digest="sha256:this", models_digest="sha256:those")))
    base = SimpleNamespace(digest=lambda: "sha256:this")
    assert check_same_base(base, files.repository).models_digest == "sha256:those"


def test_an_eligible_revision_that_fails_its_probe_stays(files, triton, publish_kids):
    publish_kids(promote=True)
    files.export = lambda *arguments: 1  # found, not written
    triton.dead = True
    with pytest.raises(ServerError, match="not healthy"):
        publish_kids()
    assert versions(files.repository) == ["1"]
    assert pointer.read(files.repository).state("kids").active == 1


def test_a_full_disk_while_exporting_is_one_sentence(files, publish_kids):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    files.export = full
    with pytest.raises(FileNotWritable, match=r"No space left on device .*; the service is as"):
        publish_kids()


def hold(repository, held, done):
    with alone(repository, "kids", "retire"):
        held.set()
        done.wait(30)


@pytest.mark.process
def test_a_second_operator_is_told_who_is_at_work(files, publish_kids):
    context = multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    other = context.Process(target=hold, args=(files.repository, held, done))
    other.start()
    assert held.wait(60)
    with pytest.raises(Locked, match=rf"@.* \(unsee retire, process {other.pid}, since 20"):
        publish_kids()
    done.set()
    other.join()
    assert publish_kids().revision == 1
