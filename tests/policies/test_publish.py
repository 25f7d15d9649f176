"""Publishing with stand-ins for server, base and exporter: order, refusals, clean-up."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file

from unsee.client.errors import InputError, RequestRejected, ServerError, ServerUnreachable
from unsee.serving import encoder_server, pointer, publish

GOLDEN = {
    "input_ids": np.arange(6, dtype=np.int64).reshape(1, 6),
    "last_hidden_state": np.linspace(-2, 2, 24, dtype=np.float32).reshape(1, 6, 4),
}


class FakeServer:
    """What `EncoderServer` offers; fails where told to."""

    def __init__(self, *, down=False, load_error=None, probe_error=1e-6):
        self.down, self.load_error, self.probe_error = down, load_error, probe_error
        self.calls = []
        self.stand_ins = []
        self.repository = None

    def __call__(self, url):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def check_live(self):
        if self.down:
            raise ServerUnreachable("no server answers")

    def load(self, model, version):
        self.calls.append(("load", model, version))
        if self.load_error:
            raise self.load_error

    def probe(self, model, version, golden):
        self.calls.append(("probe", model, version))
        np.testing.assert_array_equal(golden["input_ids"], GOLDEN["input_ids"])
        return self.probe_error

    def restore(self, model, *, versions_remain):
        seen = [p.parent.name for p in self.repository.glob(f"{model}/*/model.onnx")]
        self.stand_ins.append(seen)
        self.calls.append(("restore", model, versions_remain))


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A policy file, a repository and an exporter that writes revision after revision."""
    repository = tmp_path / "repository"
    (repository / "text_to_video" / "assets").mkdir(parents=True)
    base_dir = repository / "text_encoder_base" / "1"
    base_dir.mkdir(parents=True)
    (base_dir / "model.onnx").write_bytes(b"healthy")
    state = {"active": 1, "eligible": [1], "history": [1]}
    content = {"schema_version": 1, "default_policy": None, "policies": {"base": state}}
    (repository / pointer.POINTER_FILE).write_text(json.dumps(content))
    (tmp_path / "blimbo").mkdir()
    policy_file = tmp_path / "family.yaml"
    policy_file.write_text(
        "name: family\nunsee:\n  - {concept: Blimbo, category: character, delta: blimbo}\n"
    )
    written = []

    def write_revision(policy, base_path, repository_dir, eligible, say):
        revision = len(written) + 1
        folder = repository_dir / f"text_encoder_{policy.name}" / str(revision)
        folder.mkdir(parents=True)
        save_file(GOLDEN, folder / "golden.safetensors")
        written.append(revision)
        return revision

    monkeypatch.setattr(publish, "_write_revision", write_revision)
    return SimpleNamespace(
        policy=policy_file, repository=repository, written=written, base=tmp_path / "base"
    )


def run_publish(files, monkeypatch, server, **options):
    server.repository = files.repository
    monkeypatch.setattr(encoder_server, "EncoderServer", server)
    return publish.publish(files.policy, files.base, files.repository, "host:1", **options)


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
