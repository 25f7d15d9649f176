"""A revision's life in the real tritonserver: promote, roll back, retire and repair under load."""

import concurrent.futures
import threading
import time

import pytest

from record_fakes import audit_event
from serving_fakes import triton_of, write_fake_repository, write_fake_revision
from unsee.client.client import Client
from unsee.core.errors import RequestRejected, ServerError
from unsee.media.clip import Progress
from unsee.policies import promotion
from unsee.policies.recovery import repair
from unsee.policies.retirement import retire
from unsee.repository import ledger, pointer
from unsee.repository.layout import RETIRED
from unsee.repository.revisions import next_revision
from unsee.serving.server.triton import TritonServer
from unsee.triton.server import Server

pytestmark = pytest.mark.triton

MODEL = "policy_family"


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    repository = tmp_path_factory.mktemp("revisions") / "repository"
    with triton_of(write_fake_repository(repository, unet_work=16)) as server:
        yield server.settings


@pytest.fixture
def repository(settings):
    return settings.repository_dir


@pytest.fixture
def client(settings):
    with Client(settings.grpc_url, timeout_s=60, retries=0) as client:
        yield client


def add_revision(settings):
    """The next revision of `family`, eligible."""
    repository = settings.repository_dir
    revision = next_revision(repository / MODEL)
    write_fake_revision(repository, "family", revision)

    def mark(before):
        state = before.state("family").with_eligible(revision)
        return before.with_state("family", state), audit_event(revision=revision)

    ledger.change(repository, mark)
    return revision


def test_a_request_ends_with_the_revision_that_it_began_with(settings, repository, client):
    old = pointer.read(repository).state("family").active
    alone = client.generate("x", policy="family", seed=1, num_inference_steps=12)
    new = add_revision(settings)
    stream = client.stream("x", policy="family", seed=1, num_inference_steps=12)
    assert isinstance(next(stream), Progress)
    promotion.promote(repository, "family", new, server=Server(settings.grpc_url))
    retire(repository, "family", old)
    assert not (repository / MODEL / str(old)).exists()
    *_, clip = stream
    assert clip.record.revision == old
    assert clip.frames.tobytes() == alone.frames.tobytes()
    after = client.generate("x", policy="family", seed=1, num_inference_steps=12)
    assert after.record.revision == new
    assert after.frames.tobytes() != alone.frames.tobytes()


def test_requests_that_chose_a_revision_before_it_was_retired_get_their_clip(
    settings, repository, client
):
    """While steps of other clips keep the model's threads busy, requests that have chosen their
    revision wait for a thread to ask for it, and its files have moved by then."""
    old = add_revision(settings)

    def ask(revision, steps):
        options = {"policy": "family", "revision": revision, "num_inference_steps": steps}
        try:
            return client.generate("x", seed=1, **options).record.revision
        except RequestRejected as refusal:
            return refusal.status

    kept = pointer.read(repository).state("family").active
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        busy = [pool.submit(ask, kept, 10) for _ in range(8)]
        time.sleep(0.3)
        late = [pool.submit(ask, old, 1) for _ in range(8)]
        time.sleep(0.02)
        retire(repository, "family", old)
    assert {answer.result() for answer in busy} == {kept}
    assert {answer.result() for answer in late} <= {old, "NOT_FOUND"}


def test_revisions_come_and_go_under_load_without_a_failed_request(settings, repository, client):
    stop, failures, seen = threading.Event(), [], set()

    def ask():
        while not stop.is_set():
            try:
                clip = client.generate("x", policy="family", seed=1, num_inference_steps=2)
                seen.add(clip.record.revision)
            except ServerError as error:
                failures.append(error)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(ask)
        try:
            for _ in range(2):
                old = pointer.read(repository).state("family").active
                new = add_revision(settings)
                promotion.promote(repository, "family", new, server=Server(settings.grpc_url))
                promotion.rollback(repository, "family", "a try", server=Server(settings.grpc_url))
                promotion.promote(repository, "family", new, server=Server(settings.grpc_url))
                retire(repository, "family", old)
            deadline = time.monotonic() + 60
            while new not in seen and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            stop.set()
    assert failures == []
    assert pointer.read(repository).state("family").active in seen
    assert (repository / RETIRED / MODEL / str(old) / "model.onnx").is_file()


def test_a_revision_that_was_damaged_fails_alone(settings, repository, client):
    """A cut-off file, as a disk may leave it: its own requests get one sentence, others clips."""
    bad = add_revision(settings)
    good = pointer.read(repository).state("family").active
    file = repository / MODEL / str(bad) / "model.onnx"
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    with pytest.raises(
        RequestRejected, match=f"the policy family, revision {bad}, cannot"
    ) as caught:
        client.generate("x", policy="family", revision=bad)
    assert caught.value.status == "UNAVAILABLE"
    assert "/" not in str(caught.value)
    assert client.generate("x", policy="family", revision=good).record.revision == good
    assert TritonServer(settings).is_ready()
    (sentence,) = repair(repository, Server(settings.grpc_url)).remaining
    assert f"{bad}/model.onnx has the digest" in sentence
    file.write_bytes(whole)
    assert repair(repository, Server(settings.grpc_url)).remaining == ()
    assert client.generate("x", policy="family", revision=bad).record.revision == bad
