"""Publishing against the real tritonserver: a good revision, a cut-off one, a wrong one."""

import os
import shutil
import signal
from types import SimpleNamespace

import numpy as np
import pytest

from report_fakes import BASE_DIGEST, ENCODER_DIGEST, fake_report
from serving_fakes import stub_of, triton_of, write_fake_repository, write_fake_revision
from unsee.client.client import Client
from unsee.core.errors import ServerError
from unsee.policies import publish
from unsee.policies.composed_policy import ComposedPolicy
from unsee.policies.recovery import repair
from unsee.repository import pointer
from unsee.repository.revisions import next_revision
from unsee.serving.server.triton import TritonServer
from unsee.triton.server import Server

pytestmark = pytest.mark.triton

MODEL = "policy_family"


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    repository = write_fake_repository(tmp_path_factory.mktemp("publish") / "repository")
    shutil.rmtree(repository / MODEL / "3")  # which is not offered: publishing clears it away
    with triton_of(repository) as server:
        yield server.settings


@pytest.fixture
def publish_with(settings, tmp_path):
    """`publish` of the policy "family" with an exporter that the test gives."""
    (tmp_path / "blimbo").mkdir()
    policy_file = tmp_path / "family.yaml"
    policy_file.write_text(
        "name: family\nunsee:\n  - {concept: Blimbo, category: character, delta: blimbo}\n"
    )
    report = tmp_path / "report.json"
    report.write_text(fake_report().model_dump_json())

    def run(spoil, kind="edit"):
        def export(policy, composed, repository_dir, say):
            revision = next_revision(repository_dir / MODEL)
            spoil(write_fake_revision(repository_dir, policy.name, revision, kind))
            return revision

        base = SimpleNamespace(digest=lambda: BASE_DIGEST)
        composed = ComposedPolicy(base, [], None, ENCODER_DIGEST)
        wanted = publish.Publication(policy_file, tmp_path, settings.repository_dir, report)
        server = Server(settings.grpc_url)
        return publish.publish(wanted, server, compose=lambda *arguments: composed, export=export)

    return run


def leave(version_dir):
    """The revision is as it was exported."""


def cut_off(version_dir):
    file = version_dir / "model.onnx"
    file.write_bytes(file.read_bytes()[:100])


def swap_for_another(version_dir):
    shutil.copy(version_dir.parent / "1" / "model.onnx", version_dir / "model.onnx")


def remove_the_graph(version_dir):
    (version_dir / "model.onnx").unlink()


@pytest.mark.parametrize("kind", ["edit", "encoder"])
def test_a_published_revision_answers_after_it_is_eligible(settings, publish_with, kind):
    result = publish_with(leave, kind)
    assert result.probe_error == pytest.approx(0, abs=1e-6)
    with Client(settings.grpc_url, timeout_s=60, retries=0) as client:
        clip = client.generate("Blim", policy="family", revision=result.revision, seed=1)
        assert clip.record.revision == result.revision
        assert clip.frames.shape == (2, 16, 16, 3)
        again = client.generate("Blim", policy="family", revision=result.revision, seed=1)
        np.testing.assert_array_equal(clip.frames, again.frames)


@pytest.mark.parametrize("spoil", [cut_off, swap_for_another, remove_the_graph])
def test_a_bad_revision_is_taken_back_and_the_service_is_as_before(settings, publish_with, spoil):
    before = pointer.read(settings.repository_dir)
    model_dir = settings.repository_dir / MODEL
    versions = {path.name for path in model_dir.iterdir() if path.is_dir()}
    with pytest.raises(ServerError, match="taken back") as caught:
        publish_with(spoil)
    assert "/" not in str(caught.value)
    assert pointer.read(settings.repository_dir) == before
    assert {path.name for path in model_dir.iterdir() if path.is_dir()} == versions
    assert TritonServer(settings).is_ready()
    with Client(settings.grpc_url, timeout_s=60, retries=0) as client:
        assert client.generate("Blim", policy="family", seed=1).record.revision == 1


def test_while_the_process_of_the_policies_is_dead_nothing_becomes_eligible(settings, publish_with):
    before = pointer.read(settings.repository_dir)
    os.kill(stub_of(settings.repository_dir / "prompt_encoder"), signal.SIGKILL)
    with pytest.raises(ServerError, match=r"taken back: .*not healthy"):
        publish_with(leave)
    assert pointer.read(settings.repository_dir) == before
    repaired = repair(settings.repository_dir, Server(settings.grpc_url))
    assert repaired.remaining == ()
    assert "did not answer and was replaced" in repaired.done[0]
    made = publish_with(leave).revision
    assert made in pointer.read(settings.repository_dir).state("family").eligible
