"""Retiring a revision: not offered, not used, unloaded, kept."""

import pytest

from unsee.core.errors import InputError, ServerError, ServerUnreachable
from unsee.policies import promotion
from unsee.policies.retirement import retire
from unsee.repository import ledger, pointer
from unsee.repository.layout import RETIRED
from unsee.repository.revisions import next_revision
from unsee.triton import barrier
from unsee.triton.server import Server

MODEL = "text_encoder_family"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(barrier, "GRACE_S", 0.01)
    monkeypatch.setattr(barrier, "RETRY_S", 0.01)


def test_a_retired_revision_is_unloaded_and_kept(repository, triton):
    content = (repository / MODEL / "1" / "model.onnx").read_bytes()
    done = retire(repository, "family", 1, Server(triton.url), reason="replaced")
    assert done.archive == repository / RETIRED / MODEL / "1"
    assert (done.archive / "model.onnx").read_bytes() == content
    assert not (repository / MODEL / "1").exists()
    assert triton.versions("family") == {2}
    state = pointer.read(repository).state("family")
    assert (state.active, state.eligible, state.retired) == (2, (2,), (1,))
    assert next_revision(repository / MODEL) == 3
    first, last = ledger.read_log(repository).events
    assert (first.action, first.reason, first.outcome) == (
        "retire",
        "replaced",
        "not offered any more",
    )
    assert last.outcome == f"unloaded, kept in {RETIRED}/{MODEL}/1"


def test_requests_are_waited_for_between_the_pointer_and_the_unloading(
    repository, triton, monkeypatch
):
    seen = []
    original = triton.ModelStreamInfer

    def look(requests, context):
        eligible = pointer.read(repository).state("family").eligible
        seen.append((eligible, triton.versions("family")))
        yield from original(requests, context)

    monkeypatch.setattr(triton, "ModelStreamInfer", look)
    triton.busy = 2
    retire(repository, "family", 1, Server(triton.url))
    assert seen == [] or seen == [((2,), {1, 2})] * 3
    assert triton.calls == [("generate",)] * 3 + [("load", MODEL)]


def test_a_server_too_busy_keeps_the_revision_loaded_until_the_next_call(repository, triton):
    triton.busy = 10**6
    with pytest.raises(ServerError, match=r"took no request in 0\.2 s"):
        retire(repository, "family", 1, Server(triton.url), timeout_s=0.2)
    assert triton.versions("family") == {1, 2}
    with pytest.raises(InputError, match="was retired"):
        promotion.promote(repository, "family", 1)
    triton.busy = 0
    retire(repository, "family", 1, Server(triton.url))
    assert triton.versions("family") == {2}
    assert len(ledger.read_log(repository).events) == 2


def test_retiring_again_changes_nothing(repository, triton):
    retire(repository, "family", 1, Server(triton.url))
    before = pointer.read(repository)
    retire(repository, "family", 1, Server(triton.url))
    assert pointer.read(repository) == before
    assert len(ledger.read_log(repository).events) == 2


def test_the_active_revision_is_refused(repository, triton):
    with pytest.raises(InputError, match=r"revision 2 .* is active"):
        retire(repository, "family", 2, Server(triton.url))
    assert ledger.read_log(repository).events == ()


def test_without_a_server_nothing_is_begun(repository):
    with pytest.raises(ServerUnreachable):
        retire(repository, "family", 1, Server("127.0.0.1:9"))
    assert pointer.read(repository).state("family").eligible == (1, 2)
