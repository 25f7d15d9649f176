"""Publishing with stand-ins for server, base and exporter: order, refusals, clean-up."""

from types import SimpleNamespace

import pytest

from publish_fakes import FakeServer, run_publish
from unsee.client.errors import InputError, RequestRejected, ServerError, ServerUnreachable
from unsee.serving import pointer, publish


def test_a_revision_is_loaded_probed_and_then_eligible(files, monkeypatch):
    server = FakeServer()
    result = run_publish(files, monkeypatch, server)
    assert (result.policy, result.revision, result.active) == ("family", 1, False)
    assert server.calls == [("load", "text_encoder_family", 1), ("probe", "text_encoder_family", 1)]
    state = pointer.read(files.repository).state("family")
    assert (state.active, state.eligible) == (None, (1,))


def test_promote_also_makes_it_active(files, monkeypatch):
    assert run_publish(files, monkeypatch, FakeServer(), promote=True).active
    assert pointer.read(files.repository).state("family").active == 1


def test_without_a_server_the_slow_work_is_not_begun(files, monkeypatch):
    with pytest.raises(ServerUnreachable):
        run_publish(files, monkeypatch, FakeServer(down=True))
    assert files.written == []


def test_without_a_repository_the_slow_work_is_not_begun(files, monkeypatch):
    (files.repository / pointer.POINTER_FILE).unlink()
    with pytest.raises(InputError, match="unsee export"):
        run_publish(files, monkeypatch, FakeServer())
    assert files.written == []


@pytest.mark.parametrize(
    ("server", "words"),
    [
        (FakeServer(load_error=RequestRejected("model.onnx is cut off", "INTERNAL")), "cut off"),
        (FakeServer(probe_error=0.25), "differs from the recorded one by 0.25"),
        (FakeServer(probe_error=float("nan")), "differs"),
        (FakeServer(probe_error=float("inf")), "differs"),
    ],
)
def test_a_bad_revision_is_not_eligible_and_out_of_the_way(files, monkeypatch, server, words):
    run_publish(files, monkeypatch, FakeServer(), promote=True)
    before = pointer.read(files.repository)
    with pytest.raises(ServerError, match=words) as caught:
        run_publish(files, monkeypatch, server, promote=True)
    assert 'revision 2 of the policy "family" was taken back' in str(caught.value)
    assert pointer.read(files.repository) == before
    restore = ("restore", "text_encoder_family", True)
    assert server.calls[-2:] == [restore, restore]
    assert server.stand_ins == [["2"], []]  # the base's encoder was there for a moment
    left = sorted((files.repository / "text_encoder_family").iterdir())
    assert [path.name for path in left] == ["1", "rejected-2"]
    assert words in left[1].read_text()
    assert not list(files.repository.glob(".text_encoder*"))


def test_a_bad_first_revision_leaves_no_policy(files, monkeypatch):
    server = FakeServer(probe_error=1.0)
    with pytest.raises(ServerError, match="taken back"):
        run_publish(files, monkeypatch, server)
    assert server.calls[-1] == ("restore", "text_encoder_family", False)
    assert "family" not in pointer.read(files.repository).policies


def test_a_server_that_goes_away_is_not_asked_again(files, monkeypatch):
    server = FakeServer(load_error=ServerUnreachable("no server answers at host:1"))
    with pytest.raises(ServerError, match="no server answers at host:1"):
        run_publish(files, monkeypatch, server)
    assert [name for name, *_ in server.calls] == ["load"]


@pytest.mark.parametrize("content", [None, "{", "{}", '{"digest": "sha256:other"}'])
def test_a_repository_of_another_base_is_refused(files, content):
    file = files.repository / "text_to_video" / "assets" / "base.json"
    if content is not None:
        file.write_text(content)
    base = SimpleNamespace(name="tiny", digest=lambda: "sha256:this")
    with pytest.raises(InputError):
        publish._check_same_base(base, files.repository)


def test_the_repository_of_the_same_base_is_accepted(files):
    file = files.repository / "text_to_video" / "assets" / "base.json"
    file.write_text('{"digest": "sha256:this"}')
    publish._check_same_base(SimpleNamespace(digest=lambda: "sha256:this"), files.repository)


def test_an_eligible_revision_that_fails_its_probe_stays(files, monkeypatch):
    run_publish(files, monkeypatch, FakeServer(), promote=True)
    monkeypatch.setattr(publish, "_write_revision", lambda *arguments: 1)  # found, not written
    with pytest.raises(ServerError, match="differs"):
        run_publish(files, monkeypatch, FakeServer(probe_error=1.0))
    assert (files.repository / "text_encoder_family" / "1").is_dir()
    assert pointer.read(files.repository).state("family").active == 1
