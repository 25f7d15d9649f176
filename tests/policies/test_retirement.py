"""Retiring a revision: not offered, kept, and still there for who chose it before."""

import pytest

from publish_fakes import GOLDEN
from unsee.core.errors import InputError
from unsee.policies import promotion, retirement
from unsee.policies.retirement import retire, retire_all_but_active
from unsee.repository import ledger, pointer
from unsee.repository.layout import RETIRED
from unsee.repository.revisions import next_revision
from unsee.triton.server import Server

MODEL = "policy_family"


def test_a_retired_revision_is_put_away_and_kept(repository):
    content = (repository / MODEL / "1" / "model.onnx").read_bytes()
    done = retire(repository, "family", 1, reason="replaced")
    assert done.archive == repository / RETIRED / MODEL / "1"
    assert (done.archive / "model.onnx").read_bytes() == content
    assert not (repository / MODEL / "1").exists()
    state = pointer.read(repository).state("family")
    assert (state.active, state.eligible, state.retired) == (2, (2,), (1,))
    assert next_revision(repository / MODEL) == 3
    first, last = ledger.read_log(repository).events
    assert (first.action, first.reason, first.outcome) == (
        "retire",
        "replaced",
        "not offered any more",
    )
    assert last.outcome == f"kept in {RETIRED}/{MODEL}/1"


def test_who_chose_it_before_is_served_at_every_moment(repository, triton, monkeypatch):
    server, offered = Server(triton.url), []
    original = retirement.put_away

    def look(*arguments):
        offered.append(pointer.read(repository).state("family").eligible)
        assert server.probe("family", 1, GOLDEN) == 0
        place = original(*arguments)
        assert server.probe("family", 1, GOLDEN) == 0
        return place

    monkeypatch.setattr(retirement, "put_away", look)
    retire(repository, "family", 1)
    assert offered == [(2,)], "the pointer changes before the files move"


def test_what_was_left_of_a_retirement_is_done_by_the_next_call(repository, monkeypatch):
    def die(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(retirement, "put_away", die)
    with pytest.raises(KeyboardInterrupt):
        retire(repository, "family", 1)
    monkeypatch.undo()
    with pytest.raises(InputError, match="was retired"):
        promotion.promote(repository, "family", 1)
    assert retire(repository, "family", 1).archive.is_dir()
    assert len(ledger.read_log(repository).events) == 2


def test_retiring_again_changes_nothing(repository):
    retire(repository, "family", 1)
    before = pointer.read(repository)
    retire(repository, "family", 1)
    assert pointer.read(repository) == before
    assert len(ledger.read_log(repository).events) == 2


def test_the_active_revision_is_refused(repository):
    with pytest.raises(InputError, match=r"revision 2 .* is active"):
        retire(repository, "family", 2)
    assert ledger.read_log(repository).events == ()


def test_all_but_the_active_one_are_retired(repository):
    state = retire_all_but_active(repository, "family").state("family")
    assert (state.active, state.eligible, state.retired) == (2, (2,), (1,))
    assert ledger.read_log(repository).events[0].reason == "revision 2 replaces it"
