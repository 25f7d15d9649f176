"""Promote and rollback: what they refuse, what they ask the server, what they write down."""

import pytest

from publish_fakes import fill_revision
from unsee.core.errors import InputError, RevisionUnfit, ServerError, ServerUnreachable
from unsee.policies import promotion
from unsee.repository import ledger, pointer
from unsee.triton.server import Server

MODEL = "policy_family"


def active(repository):
    return pointer.read(repository).state("family").active


def tamper(repository, revision):
    file = repository / MODEL / str(revision) / "model.onnx"
    file.write_bytes(file.read_bytes() + b"!")


def test_promote_points_at_the_revision_and_logs_it(repository):
    promotion.promote(repository, "family", 1)
    assert active(repository) == 1
    (event,) = ledger.read_log(repository).events
    assert (event.action, event.revision, event.outcome) == ("promote", 1, "done")


def test_the_default_policy_is_set_on_request_only(repository):
    assert promotion.promote(repository, "family", 1).default_policy is None
    assert promotion.promote(repository, "family", default=True).default_policy == "family"
    assert promotion.promote(repository, "family", 1).default_policy == "family"


@pytest.mark.parametrize(
    "change",
    [
        lambda repository: promotion.promote(repository, "family", 1),
        lambda repository: promotion.rollback(repository, "family", "why"),
    ],
)
def test_a_tampered_revision_is_refused_and_nothing_changes(repository, change):
    tamper(repository, 1)
    before = pointer.read(repository)
    with pytest.raises(RevisionUnfit, match=r"1/model\.onnx has the digest"):
        change(repository)
    assert pointer.read(repository) == before
    assert ledger.read_log(repository).events == ()


def test_with_a_server_the_revision_is_asked_first(repository, triton):
    promotion.promote(repository, "family", 1, server=Server(triton.url))
    assert triton.calls == [("probe", "family", 1)]
    assert active(repository) == 1


def dead(repository, triton):
    triton.dead = True


def broken(repository, triton):
    (repository / MODEL / "1" / "model.onnx").unlink()
    fill_revision(repository / MODEL / "1", "family", 1, "broken")


def other(repository, triton):
    (repository / MODEL / "1" / "model.onnx").unlink()
    fill_revision(repository / MODEL / "1", "family", 1, "wrong")


@pytest.mark.parametrize(
    ("spoil", "words"), [(broken, "cannot be opened"), (dead, "not healthy"), (other, "differs")]
)
def test_a_revision_that_does_not_answer_is_refused(repository, triton, spoil, words):
    spoil(repository, triton)
    for change in (
        lambda: promotion.promote(repository, "family", 1, server=Server(triton.url)),
        lambda: promotion.rollback(repository, "family", "why", server=Server(triton.url)),
    ):
        with pytest.raises(ServerError, match=f"{words}.*unsee repair"):
            change()
    assert active(repository) == 2


def test_nobody_at_the_url_changes_nothing(repository):
    with pytest.raises(ServerUnreachable, match="unsee serve"):
        promotion.promote(repository, "family", 1, server=Server("127.0.0.1:9"))
    assert active(repository) == 2


def test_rollback_goes_to_the_one_before_without_loading_anything(repository, triton):
    promotion.promote(repository, "family", 1)
    promotion.promote(repository, "family", 2)
    state = promotion.rollback(repository, "family", "siblings", server=Server(triton.url)).state(
        "family"
    )
    assert (state.active, state.rolled_back, state.history) == (1, (2,), (1, 2, 1, 2, 1))
    assert triton.calls == [("probe", "family", 1)]
    event = ledger.read_log(repository).events[-1]
    assert (event.action, event.revision, event.reason, event.outcome) == (
        "rollback",
        1,
        "siblings",
        "left 2",
    )
    with pytest.raises(InputError, match="name one with --to"):
        promotion.rollback(repository, "family", "again")
    assert promotion.rollback(repository, "family", "why", to=2).state("family").active == 2


def test_a_rollback_needs_a_reason(repository):
    with pytest.raises(InputError, match="--reason"):
        promotion.rollback(repository, "family", " ", to=1)


def test_a_rollback_that_another_operator_has_overtaken_is_refused(repository, monkeypatch):
    promotion.promote(repository, "family", 1)
    promotion.promote(repository, "family", 2)

    def overtake(*arguments):
        monkeypatch.undo()
        promotion.rollback(repository, "family", "first")

    monkeypatch.setattr(promotion, "check_revision", overtake)
    with pytest.raises(InputError):
        promotion.rollback(repository, "family", "second")
    assert active(repository) == 1
    assert [e.reason for e in ledger.read_log(repository).events if e.reason] == ["first"]
