"""The gateway before the real tritonserver: clips, ways round it, a process that dies."""

import contextlib
import json
import os
import shutil
import signal
import threading
import time
import warnings

import grpc
import pytest
from gateway_calls import ask
from tritonclient.grpc import InferenceServerClient, service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from gateway_fakes import TOKENS, tenants, wait_until
from serving_fakes import stub_of, triton_of, write_fake_repository
from unsee.client.client import Client
from unsee.client.messages import build_request
from unsee.core.errors import RequestRejected

pytestmark = pytest.mark.triton
WHO = (("authorization", f"Bearer {TOKENS['kids']}"), ("triton_grpc_error", "true"))


@pytest.fixture(scope="module")
def triton(tmp_path_factory):
    repository = tmp_path_factory.mktemp("gateway") / "repository"
    with triton_of(write_fake_repository(repository, unet_work=4)) as server:
        yield server


@pytest.fixture(scope="module")
def before(serve_all, triton):
    """A gateway before the real server; the one that only pretends has nothing to do."""
    return serve_all(
        triton=triton.settings.grpc_url,
        repository=triton.settings.repository_dir,
        tenants=tenants(studio={"policies": ["base", "family"], "default_policy": "base"}),
        limits={"drain_timeout_s": 2.0},
        openai_videos=True,
    )


@pytest.fixture
def client(before):
    with Client(before.addresses.grpc, token=TOKENS["kids"], timeout_s=60) as client:
        yield client


def test_clips_come_through_as_they_are(client, triton):
    through = client.generate("a cat", seed=5)
    with Client(triton.settings.grpc_url, timeout_s=60) as direct:
        straight = direct.generate("a cat", seed=5, policy="family")
    assert through.frames.tobytes() == straight.frames.tobytes()
    assert through.record.policy == "family"
    assert through.record.revision == 1


def test_the_limits_of_the_base_are_told_in_the_models_words(client):
    with pytest.raises(RequestRejected, match="height") as caught:
        client.generate("a cat", height=17)
    assert caught.value.status == "INVALID_ARGUMENT"


def test_the_operators_methods_are_closed(before):
    with InferenceServerClient(before.addresses.grpc) as operator:
        for ask in (
            operator.get_model_repository_index,
            lambda: operator.load_model("text_to_video", config="{}"),
            lambda: operator.unload_model("text_to_video"),
            lambda: operator.register_system_shared_memory("a", "/a", 8),
            operator.get_system_shared_memory_status,
            lambda: operator.get_model_config("text_to_video"),
            operator.get_inference_statistics,
            lambda: operator.update_trace_settings("text_to_video", {"trace_level": ["TENSORS"]}),
            lambda: operator.update_log_settings({"log_file": "/tmp/x"}),
        ):
            with pytest.raises(InferenceServerException, match="not served by the gateway"):
                ask()


def test_metadata_that_crashes_this_triton_does_not_reach_it(before, triton):
    with grpc.insecure_channel(before.addresses.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

        def ask(k):
            values = {"prompt": "a cat", "num_inference_steps": 1 if k % 2 else 999}
            with contextlib.suppress(grpc.RpcError):
                list(stub.ModelStreamInfer(iter([build_request(values)]), metadata=WHO, timeout=60))

        threads = [threading.Thread(target=ask, args=(k,)) for k in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert stub.ServerReady(service_pb2.ServerReadyRequest()).ready
    assert triton.exit_code() is None


def test_what_may_be_known_of_a_policy(before):
    told = json.loads(ask(before, "/v2/policies", who="studio")[2])
    assert told["default_policy"] == "base"
    family = told["policies"][1]
    assert (family["policy"], family["unsees"]) == ("family", ["Blimbo"])
    assert (family["active_revision"], family["eligible_revisions"]) == (1, [1, 2])
    assert told["base"]["name"] == "fake"


def test_a_video_in_openais_form(before):
    openai = pytest.importorskip("openai", reason="the openai client is not installed")
    url = f"http://{before.addresses.http}/v1"
    with warnings.catch_warnings(), openai.OpenAI(base_url=url, api_key=TOKENS["kids"]) as client:
        warnings.simplefilter("ignore", DeprecationWarning)
        video = client.videos.create_and_poll(
            prompt="a cat", extra_body={"seed": 5}, poll_interval_ms=50
        )
        assert (video.status, video.error) == ("completed", None)
        assert client.videos.download_content(video.id).content[4:8] == b"ftyp"


def test_the_page_shows_a_clip(before):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or pytest.skip("there is no chromium on the PATH")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"http://{before.addresses.http}/")
        page.locator("#token").fill(TOKENS["studio"])
        page.keyboard.press("Enter")
        page.locator("#prompt").fill("a cat")
        page.locator("#generate").click()
        page.locator("#status", has_text="2 clips made").wait_for()
        assert page.locator("canvas").count() == 2
        browser.close()


def test_a_model_whose_process_dies_ends_its_clips_and_the_readiness(before, client, triton):
    assert ask(before, "/readyz", who=None)[0] == 200
    client.generate("a cat", num_inference_steps=2)  # measured: silence is noticed after 10 s
    # looked for before: the clip is soon over
    victim = stub_of(triton.settings.repository_dir / "text_to_video")
    events = client.stream("a cat", num_inference_steps=12)
    next(events)
    os.kill(victim, signal.SIGKILL)
    started = time.monotonic()
    with pytest.raises(RequestRejected) as caught:
        list(events)
    assert caught.value.status == "UNAVAILABLE"
    assert time.monotonic() - started < 30
    wait_until(lambda: ask(before, "/readyz", who=None)[0] == 503, timeout_s=60)
    assert before.gateway.admission.running == 0
