"""Publishing against the real tritonserver: a good revision, a cut-off one, a wrong one."""

import shutil
import time
from types import SimpleNamespace

import numpy as np
import onnx_ir
import onnxruntime
import pytest
from safetensors.numpy import save_file

from report_fakes import BASE_DIGEST, ENCODER_DIGEST, fake_report
from serving_fakes import PROMPT_TOKENS, write_fake_repository, write_fake_revision
from unsee.client.client import Client
from unsee.core.errors import RequestRejected, ServerError
from unsee.export.onnx.shared_weights import save_beside
from unsee.policies import publish
from unsee.repository import pointer
from unsee.repository.revisions import next_revision
from unsee.serving.server.triton import ServerSettings, TritonServer
from unsee.triton.server import Server

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("publish")
    repository_dir = write_fake_repository(folder / "repository")
    base = repository_dir / "text_encoder_base" / "1" / "model.onnx"
    save_beside(onnx_ir.load(base), base)  # as the exporter writes it
    settings = ServerSettings.on_free_ports(repository_dir, folder / "triton.log", threads=1)
    with TritonServer(settings):
        yield settings


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

    def run(spoil):
        def export(policy, composed, repository_dir, say):
            revision = next_revision(repository_dir / "text_encoder_family")
            version_dir = write_fake_revision(repository_dir, policy.name, revision)
            write_golden(version_dir)
            spoil(version_dir)
            return revision

        base = SimpleNamespace(digest=lambda: BASE_DIGEST)
        composed = publish.ComposedPolicy(base, [], None, ENCODER_DIGEST)
        return publish.publish(
            policy_file,
            tmp_path,
            settings.repository_dir,
            Server(settings.grpc_url),
            report=report,
            compose=lambda *arguments: composed,
            export=export,
        )

    return run


def write_golden(version_dir):
    ids = np.full((1, PROMPT_TOKENS), 65, np.int64)
    session = onnxruntime.InferenceSession(str(version_dir / "model.onnx"))
    (hidden,) = session.run(None, {"input_ids": ids})
    golden = {"input_ids": ids, "last_hidden_state": hidden}
    save_file(golden, version_dir / "golden.safetensors")


def cut_off(version_dir):
    file = version_dir / "model.onnx"
    file.write_bytes(file.read_bytes()[:500])


def swap_for_another(version_dir):
    shutil.copy(version_dir.parent / "1" / "model.onnx", version_dir / "model.onnx")


def wait_until_ready(settings):
    for _ in range(100):
        if TritonServer(settings).is_ready():
            return True
        time.sleep(0.1)
    return False


def test_a_published_revision_answers_after_it_is_eligible(settings, publish_with):
    result = publish_with(lambda version_dir: None)
    assert result.probe_error == pytest.approx(0, abs=1e-6)
    with Client(settings.grpc_url, timeout_s=60, retries=0) as client:
        clip = client.generate("Blim", policy="family", revision=result.revision, seed=1)
        assert clip.record.revision == result.revision
        assert clip.frames.shape == (2, 16, 16, 3)
        again = client.generate("Blim", policy="family", revision=result.revision, seed=1)
        np.testing.assert_array_equal(clip.frames, again.frames)


@pytest.mark.parametrize("spoil", [cut_off, swap_for_another])
def test_a_bad_revision_is_taken_back_and_the_server_is_as_before(settings, publish_with, spoil):
    before = pointer.read(settings.repository_dir)
    model_dir = settings.repository_dir / "text_encoder_family"
    versions = {str(number) for number in before.state("family").eligible}
    with pytest.raises(ServerError, match="taken back") as caught:
        publish_with(spoil)
    assert "/" not in str(caught.value)
    assert pointer.read(settings.repository_dir) == before
    assert {path.name for path in model_dir.iterdir() if path.is_dir()} == versions
    assert wait_until_ready(settings)
    with Client(settings.grpc_url, timeout_s=60, retries=0) as client:
        assert client.generate("Blim", policy="family", seed=1).record.revision == 1


def test_rejections_keep_triton_status(settings):
    with Client(settings.grpc_url, timeout_s=60, retries=0) as client:
        with pytest.raises(RequestRejected) as caught:
            client.generate("x", policy="nobody")
        assert caught.value.status == "NOT_FOUND"
        with pytest.raises(RequestRejected) as caught:
            client.generate("x", policy="base", num_inference_steps=99)
        assert caught.value.status == "INVALID_ARGUMENT"


def test_a_closed_stream_frees_the_client_at_once(settings):
    with Client(settings.grpc_url, timeout_s=60, retries=0) as client:
        events = client.stream("x", policy="base", num_inference_steps=12)
        next(events)
        events.close()
        assert client.generate("x", policy="base", seed=3).record.seed == 3
