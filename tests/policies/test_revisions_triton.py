"""A revision's life in the real tritonserver: promote, roll back, retire and repair under load."""

import concurrent.futures
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import save_file

from serving_fakes import PROMPT_TOKENS, write_fake_repository, write_fake_revision
from unsee.client.client import Client
from unsee.core.errors import InputError, RequestRejected, ServerError
from unsee.media.clip import Progress
from unsee.policies import promotion
from unsee.policies.recovery import repair
from unsee.policies.retirement import retire
from unsee.repository import ledger, pointer
from unsee.repository.layout import RETIRED
from unsee.repository.records import AuditEvent, PolicyState
from unsee.repository.revisions import next_revision
from unsee.serving.server.triton import ServerSettings, TritonServer
from unsee.triton.server import Server, VersionState

pytestmark = pytest.mark.triton

MODEL = "text_encoder_family"


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("revisions")
    repository_dir = write_fake_repository(folder / "repository", unet_work=16)
    for version_dir in repository_dir.glob("text_encoder_*/*"):
        if version_dir.is_dir():
            write_golden(version_dir)
    settings = ServerSettings.on_free_ports(repository_dir, folder / "triton.log", threads=1)
    with TritonServer(settings):
        yield settings


@pytest.fixture
def repository(settings):
    return settings.repository_dir


@pytest.fixture
def client(settings):
    with Client(settings.grpc_url, timeout_s=60, retries=0) as client:
        yield client


def write_golden(version_dir):
    ids = np.full((1, PROMPT_TOKENS), 65, np.int64)
    session = onnxruntime.InferenceSession(str(version_dir / "model.onnx"))
    (hidden,) = session.run(None, {"input_ids": ids})
    save_file({"input_ids": ids, "last_hidden_state": hidden}, version_dir / "golden.safetensors")


def add_revision(settings):
    """The next revision of `family`, loaded and eligible."""
    repository = settings.repository_dir
    revision = next_revision(repository / MODEL)
    write_golden(write_fake_revision(repository, "family", revision))
    server = Server(settings.grpc_url)
    server.load(MODEL, revision)

    def mark(before):
        event = AuditEvent(
            action="publish",
            policy="family",
            revision=revision,
            encoder_digest=None,
            report_digest=None,
        )
        return before.with_state("family", before.state("family").with_eligible(revision)), event

    ledger.change(repository, mark)
    return revision


def test_a_request_ends_with_the_revision_that_it_began_with(settings, repository, client):
    old = pointer.read(repository).state("family").active
    alone = client.generate("x", policy="family", seed=1, num_inference_steps=12)
    new = add_revision(settings)
    stream = client.stream("x", policy="family", seed=1, num_inference_steps=12)
    assert isinstance(next(stream), Progress)
    promotion.promote(repository, "family", new, server=Server(settings.grpc_url))
    retire(repository, "family", old, Server(settings.grpc_url))
    assert not (repository / MODEL / str(old)).exists()
    *_, clip = stream
    assert clip.record.revision == old
    assert clip.frames.tobytes() == alone.frames.tobytes()
    after = client.generate("x", policy="family", seed=1, num_inference_steps=12)
    assert after.record.revision == new
    assert after.frames.tobytes() != alone.frames.tobytes()


def test_requests_that_queue_for_their_encoder_are_waited_for(settings, repository, client):
    """While steps of other clips keep the model's threads busy, requests that have chosen their
    revision wait for a thread to ask its encoder: it may not be gone by then."""
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
        retire(repository, "family", old, Server(settings.grpc_url))
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
                retire(repository, "family", old, Server(settings.grpc_url))
        finally:
            stop.set()
    assert failures == []
    assert pointer.read(repository).state("family").active in seen
    server = Server(settings.grpc_url)
    states = server.versions(MODEL)
    loaded = {n for n, state in states.items() if state is VersionState.LOADED}
    assert loaded >= set(pointer.read(repository).state("family").eligible)
    assert old not in loaded
    assert (repository / RETIRED / MODEL / str(old) / "model.onnx").is_file()


def stub_of(version_dir):
    """The process that serves a version: its command line names the folder."""
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"{version_dir}/".encode() in status.read_bytes():
                return int(status.parent.name)
        except OSError:
            continue
    raise AssertionError(f"no process serves {version_dir}")


def test_a_revision_whose_process_died_is_not_gone_back_to_until_repaired(
    settings, repository, client
):
    old = pointer.read(repository).state("family").active
    new = add_revision(settings)
    promotion.promote(repository, "family", new, server=Server(settings.grpc_url))
    os.kill(stub_of(repository / MODEL / str(old)), signal.SIGKILL)
    with pytest.raises(ServerError, match=r"does not answer as it should.*unsee repair"):
        promotion.rollback(repository, "family", "why", to=old, server=Server(settings.grpc_url))
    assert pointer.read(repository).state("family").active == new
    result = repair(repository, Server(settings.grpc_url))
    assert any(f"version {old} of {MODEL} was loaded again" in said for said in result.done)
    promotion.rollback(repository, "family", "why", to=old, server=Server(settings.grpc_url))
    clip = client.generate("x", policy="family", seed=1)
    assert clip.record.revision == old


def test_the_rubble_of_a_failed_load_is_cleared(settings, repository):
    broken = next_revision(repository / MODEL)
    version_dir = write_fake_revision(repository, "family", broken)
    (version_dir / "model.onnx").write_bytes(b"rubbish")
    server = Server(settings.grpc_url)
    with pytest.raises(ServerError):
        server.load(MODEL, broken)
    assert server.versions(MODEL)[broken] is VersionState.FAILED
    repair(repository, Server(settings.grpc_url))
    deadline = time.monotonic() + 10
    while not TritonServer(settings).is_ready():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert server.versions(MODEL)[broken] is VersionState.UNLOADED


def test_the_last_revision_of_a_policy_that_was_never_promoted_is_retired(settings, repository):
    write_golden(write_fake_revision(repository, "kids", 1))
    server = Server(settings.grpc_url)
    server.load("text_encoder_kids", 1)

    def mark(before):
        state = PolicyState().with_eligible(1)
        return before.with_state("kids", state), ledger.event_of(repository, "repair", "kids", 1)

    ledger.change(repository, mark)
    retire(repository, "kids", 1, Server(settings.grpc_url))
    assert server.versions("text_encoder_kids")[1] is VersionState.UNLOADED
    with pytest.raises(InputError, match="no eligible revision"):
        promotion.promote(repository, "kids")
