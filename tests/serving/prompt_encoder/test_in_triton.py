"""prompt_encoder in the real tritonserver: every policy in one process, and what fails alone."""

import concurrent.futures
import shutil
import time
import urllib.request

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from serving_fakes import admin_client, triton_of, write_fake_repository, write_fake_revision
from unsee.repository.layout import SERVED_MODELS, revision_dir
from unsee.repository.revisions import golden
from unsee.serving.supervisor.processes import live_stubs

pytestmark = pytest.mark.triton

POLICIES = [f"policy-{number}" for number in range(16)]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server of sixteen policies, the last of which is a tuned encoder, and its repository."""
    repository = write_fake_repository(tmp_path_factory.mktemp("prompts") / "repository")
    for policy in POLICIES:
        kind = "encoder" if policy == POLICIES[-1] else "edit"
        write_fake_revision(repository, policy, 1, kind=kind)
    with triton_of(repository) as server:
        yield server


@pytest.fixture(scope="module")
def client(served):
    with InferenceServerClient(served.settings.grpc_url) as client:
        yield client


@pytest.fixture(scope="module")
def operator(served):
    with admin_client(served.settings.grpc_url) as operator:
        yield operator


def repository_of(served):
    return served.settings.repository_dir


def tensor(name, datatype, array):
    made = InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def asked(client, policy, revision, ids, mask):
    """`prompt_embeds` by prompt_encoder."""
    rows = (len(ids), 1)
    inputs = [
        tensor("input_ids", "INT64", ids),
        tensor("attention_mask", "INT64", mask),
        tensor("policy", "BYTES", np.full(rows, policy.encode(), np.object_)),
        tensor("revision", "INT64", np.full(rows, revision, np.int64)),
    ]
    return client.infer("prompt_encoder", inputs).as_numpy("prompt_embeds")


def recorded(served, policy, revision=1):
    found = golden(revision_dir(repository_of(served), policy, revision))
    return found["input_ids"], found["attention_mask"], found["prompt_embeds"]


def calls(operator, model):
    (found,) = operator.get_inference_statistics(model).model_stats
    return found.execution_count, found.inference_count


def test_only_the_fixed_models_have_processes(served):
    assert {version.model for version in live_stubs(served.pid).values()} == set(SERVED_MODELS)


def test_every_policy_answers_as_recorded_and_they_share_the_text_encoders_calls(
    served, client, operator
):
    wanted = {policy: recorded(served, policy) for policy in POLICIES}
    for policy, (ids, mask, _) in wanted.items():  # open them all
        asked(client, policy, 1, ids, mask)
    calls_before, rows_before = calls(operator, "text_encoder")
    with concurrent.futures.ThreadPoolExecutor(len(POLICIES)) as pool:
        for _ in range(3):
            answers = pool.map(
                lambda policy: asked(client, policy, 1, *wanted[policy][:2]), POLICIES
            )
            for policy, answer in zip(POLICIES, answers, strict=True):
                np.testing.assert_allclose(answer, wanted[policy][2], atol=1e-5)
    calls_after, rows_after = calls(operator, "text_encoder")
    edits = len(POLICIES) - 1
    assert rows_after - rows_before == 3 * 2 * edits, "a tuned encoder needs no states"
    assert calls_after - calls_before < 3 * edits


def test_prompts_of_different_lengths_share_calls_too(served, client, operator):
    ids, mask, wanted = recorded(served, "family", 1)
    lengths = [48, 40, 33, 30] * 4
    asked(client, "family", 1, ids, mask)  # open it
    for _ in range(20):  # they meet in the queue only where they come fast enough
        calls_before, rows_before = calls(operator, "text_encoder")
        with concurrent.futures.ThreadPoolExecutor(len(lengths)) as pool:
            answers = pool.map(
                lambda length: asked(client, "family", 1, ids[:, :length], mask[:, :length]),
                lengths,
            )
            for length, answer in zip(lengths, answers, strict=True):
                np.testing.assert_allclose(answer, wanted[:, :length], atol=1e-5)
        calls_after, rows_after = calls(operator, "text_encoder")
        assert rows_after - rows_before == 2 * len(lengths)
        if calls_after - calls_before < len(lengths):
            return
    raise AssertionError("no two of them shared a call")


def test_a_plain_triton_model_of_a_policy_gives_the_same_bytes(served, client, operator):
    ids, mask, _ = recorded(served, "family", 2)
    by_prompt_encoder = asked(client, "family", 2, ids, mask)
    tokens = [tensor("input_ids", "INT64", ids), tensor("attention_mask", "INT64", mask)]
    states = client.infer("text_encoder", tokens).as_numpy("states")
    operator.load_model("policy_family")
    try:
        assert operator.is_model_ready("policy_family", "2")
        inputs = [tensor("states", "FP32", states), tokens[1]]
        plain = client.infer("policy_family", inputs, model_version="2").as_numpy("prompt_embeds")
    finally:
        operator.unload_model("policy_family")
    assert plain.tobytes() == by_prompt_encoder.tobytes()


def test_a_revision_that_comes_later_is_served_without_a_load(served, client):
    write_fake_revision(repository_of(served), "late", 1)
    ids, mask, wanted = recorded(served, "late")
    np.testing.assert_allclose(asked(client, "late", 1, ids, mask), wanted, atol=1e-5)


def test_a_damaged_revision_fails_in_one_sentence_and_the_rest_goes_on(served, client):
    folder = write_fake_revision(repository_of(served), "damaged", 1)
    ids, mask, _ = recorded(served, "damaged")
    (folder / "model.onnx").write_bytes(b"rubbish")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        damaged = [pool.submit(asked, client, "damaged", 1, ids, mask) for _ in range(4)]
        whole = [pool.submit(asked, client, "base", 1, ids, mask) for _ in range(4)]
        for one in damaged:
            with pytest.raises(InferenceServerException) as caught:
                one.result()
            assert caught.value.message() == (
                "UNAVAILABLE: revision 1 of the policy damaged cannot be opened; publish the "
                "policy again"
            )
        assert all(one.result().shape == (2, 48, 8) for one in whole)
    shutil.rmtree(folder.parent)


@pytest.mark.parametrize(
    ("policy", "revision", "sentence"),
    [
        ("", 1, "INVALID_ARGUMENT: '' is no name of a policy"),
        ("../base", 1, "INVALID_ARGUMENT: '../base' is no name of a policy"),
        ("studio", 1, "NOT_FOUND: the policy studio has no revision 1 here"),
    ],
)
def test_a_refusal_is_a_status_and_a_sentence(served, client, policy, revision, sentence):
    ids, mask, _ = recorded(served, "base")
    with pytest.raises(InferenceServerException) as caught:
        asked(client, policy, revision, ids, mask)
    assert caught.value.message() == sentence


def test_the_metrics_count_by_policy_and_revision(served, client):
    ids, mask, _ = recorded(served, "family", 1)
    asked(client, "family", 1, ids, mask)
    labels = 'policy="family",revision="1"'
    deadline = time.monotonic() + 30
    while f"unsee_policy_seconds_total{{{labels}}}" not in (values := metrics(served)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert values[f"unsee_policy_requests_total{{{labels}}}"] >= 1
    assert values[f"unsee_policy_seconds_total{{{labels}}}"] > 0
    assert values["unsee_policies_open"] >= 1
    assert not any("studio" in name for name in values), "no label for what is not there"


def metrics(served):
    """What the metrics of prompt_encoder say, by name with labels."""
    url = f"http://{served.settings.host}:{served.settings.metrics_port}/metrics"
    with urllib.request.urlopen(url) as response:
        lines = response.read().decode().splitlines()
    found = (line.rsplit(" ", 1) for line in lines if line.startswith("unsee_"))
    return {name: float(value) for name, value in found}
