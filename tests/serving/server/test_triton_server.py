"""The whole service in the real tritonserver: clips, seeds, refusals, cancelling, revisions."""

import concurrent.futures
import json
import urllib.request

import grpc
import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2, service_pb2_grpc

from serving_fakes import (
    admin_client,
    denoiser_rows,
    settled_denoiser_rows,
    triton_of,
    wait_until,
    write_fake_repository,
)
from unsee.client.client import Client
from unsee.client.messages import build_request
from unsee.core.errors import DeadlineExceeded, RequestRejected, ServerError
from unsee.media.clip import Clip, Part, Progress
from unsee.serving.server.triton import ServerSettings, TritonServer

pytestmark = pytest.mark.triton
STEPS = 12
"""As many as the base allows."""
ROWS_PER_STEP = 2
"""With and without the prompt (classifier-free guidance)."""


@pytest.fixture(scope="module")
def client(server):
    with Client(server.settings.grpc_url, timeout_s=120.0) as client:
        yield client


@pytest.fixture(scope="module")
def operator(server):
    with admin_client(server.settings.grpc_url) as operator:
        yield operator


def test_a_clip_comes_with_its_progress_and_its_record(client):
    options = {"policy": "family", "seed": 5, "num_frames": 3, "height": 24, "width": 32}
    *progress, clip = client.stream("a cat", **options)
    assert progress == [Progress(step, 4) for step in (1, 2, 3, 4)]
    assert isinstance(clip, Clip)
    assert clip.frames.shape == (3, 24, 32, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.frames.std() > 0
    record = clip.record
    assert (record.policy, record.revision, record.seed) == ("family", 1, 5)
    assert record.edit_digest == "sha256:edit 1 of family"
    assert record.scheduler == "DDIMScheduler"


def test_a_decoder_of_whole_clips_streams_one_part(client):
    options = {"policy": "family", "seed": 5, "num_frames": 3}
    *progress, part, clip = client.stream("a cat", stream_frames=True, **options)
    assert progress == [Progress(step, 4) for step in (1, 2, 3, 4)]
    assert isinstance(part, Part)
    assert (part.first_frame, part.num_frames, part.fps) == (0, 3, clip.record.fps)
    whole = client.generate("a cat", stream_frames=False, **options)
    for streamed in (part, clip):
        np.testing.assert_array_equal(streamed.frames, whole.frames)
    same = {"seconds", "started_at"}
    assert clip.record.model_dump(exclude=same) == whole.record.model_dump(exclude=same)


def test_the_frames_are_those_of_the_same_loop_in_one_process(client, fake_repository):
    import onnxruntime

    from text_to_video.base import read_base
    from text_to_video.sampler import SamplerTables
    from text_to_video.tokens import PromptTokenizer

    def run(name, **feeds):
        path = fake_repository / name / "1" / "model.onnx"
        return onnxruntime.InferenceSession(path).run(None, feeds)[0]

    assets = fake_repository / "text_to_video" / "assets"
    tokenizer = PromptTokenizer(assets / "tokenizer.json", read_base(assets / "base.json"))
    tokens = tokenizer.encode(negative_prompt="", prompt="a cat")
    mask = tokens.attention_mask
    states = run("text_encoder", input_ids=tokens.input_ids, attention_mask=mask)
    hidden = run("policy_family", states=states, attention_mask=mask)
    table = SamplerTables(assets / "samplers.safetensors").table("DDIMScheduler", 4)
    shape = (4, 2, 2, 2)
    terms = [np.random.Generator(np.random.PCG64(5)).standard_normal(shape, np.float32)]
    for k in range(5):
        weights = [table.initial[k], *table.pred[k, :k]]
        latents = sum(w * term for w, term in zip(weights, terms, strict=True)).astype(np.float32)
        if k < 4:
            sample, timestep = np.stack([latents] * 2), np.full(2, table.timesteps[k])
            rows = run(
                "video_denoiser", sample=sample, timestep=timestep, encoder_hidden_states=hidden
            )
            terms.append(rows[0] + np.float32(3.5) * (rows[1] - rows[0]))
    frames = run("vae_decoder", latents=latents[None])[0]
    served = client.generate("a cat", policy="family", seed=5).frames
    assert np.abs(served.astype(int) - frames.astype(int)).max() <= 1


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "EulerAncestralDiscreteScheduler"])
def test_the_same_seed_gives_the_same_bytes_alone_or_batched(client, scheduler):
    wanted = [(policy, seed) for policy in ("base", "family") for seed in (1, 2, 3)]

    def frames(case):
        policy, seed = case
        options = {"policy": policy, "seed": seed, "scheduler": scheduler}
        return client.generate("a cat", num_inference_steps=6, **options).frames.tobytes()

    alone = [frames(case) for case in wanted]
    assert len(set(alone)) == len(alone), "every policy and seed has its own clip"
    with concurrent.futures.ThreadPoolExecutor(len(wanted)) as pool:
        assert list(pool.map(frames, wanted)) == alone


def test_a_drawn_seed_is_recorded_and_reproduces_the_clip(client):
    drawn, other = (client.generate("a cat", policy="base") for _ in range(2))
    assert drawn.record.seed != other.record.seed
    again = client.generate("a cat", policy="base", seed=drawn.record.seed)
    assert again.frames.tobytes() == drawn.frames.tobytes()


@pytest.mark.parametrize(
    ("options", "status", "sentence"),
    [
        ({}, "INVALID_ARGUMENT", "name a policy; this server has base, family"),
        ({"policy": "studio"}, "NOT_FOUND", "there is no policy 'studio'"),
        ({"policy": "family", "revision": 3}, "NOT_FOUND", "it offers 1, 2"),
        ({"policy": "base", "height": 20}, "INVALID_ARGUMENT", "a multiple of 8, not 20"),
        ({"policy": "base", "scheduler": "X"}, "INVALID_ARGUMENT", "there is no scheduler 'X'"),
        ({"policy": "base", "negative_prompt": "x" * 47}, "INVALID_ARGUMENT", "has 47 tokens"),
    ],
)
def test_a_bad_request_ends_in_one_sentence_with_its_status(client, options, status, sentence):
    with pytest.raises(RequestRejected, match=sentence) as caught:
        client.generate("a cat", **options)
    assert caught.value.status == status
    assert "\n" not in str(caught.value)


def test_bad_requests_disturb_no_others(client):
    alone = client.generate("a cat", policy="base", seed=1).frames.tobytes()

    def good(_):
        return client.generate("a cat", policy="base", seed=1).frames.tobytes()

    def bad(_):
        with pytest.raises(RequestRejected):
            client.generate("a cat", policy="base", height=20)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(bad if index % 2 else good, index) for index in range(16)]
        results = [future.result() for future in futures]
    assert results[::2] == [alone] * 8


@pytest.fixture(scope="module")
def slow_server(tmp_path_factory):
    """Steps of a quarter of a second, so that who leaves after the first is far from the end."""
    repository = tmp_path_factory.mktemp("slow") / "repository"
    with triton_of(write_fake_repository(repository, unet_work=60)) as running:
        yield running


@pytest.fixture
def steps_evaluated(slow_server):
    """A function that says how many of the test's STEPS were evaluated, once no more are."""
    with admin_client(slow_server.settings.grpc_url) as operator:
        before = settled_denoiser_rows(operator)
        yield lambda: (settled_denoiser_rows(operator) - before) / ROWS_PER_STEP


def test_leaving_the_stream_stops_the_work(slow_server, steps_evaluated):
    with Client(slow_server.settings.grpc_url) as client:
        stream = client.stream("a cat", policy="base", num_inference_steps=STEPS)
        next(stream)
        stream.close()
        assert 1 <= steps_evaluated() <= STEPS / 2


def test_closing_the_channel_stops_the_work(slow_server, steps_evaluated):
    client = Client(slow_server.settings.grpc_url)
    stream = client.stream("a cat", policy="base", num_inference_steps=STEPS)
    next(stream)
    client.close()
    assert 1 <= steps_evaluated() <= STEPS / 2


def test_a_deadline_stops_the_work(slow_server, steps_evaluated):
    request = build_request({"prompt": "a cat", "policy": "base", "num_inference_steps": STEPS})
    with grpc.insecure_channel(slow_server.settings.grpc_url) as channel:
        grpc.channel_ready_future(channel).result(60)
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answers = stub.ModelStreamInfer(iter([request]), timeout=0.4)
        with pytest.raises(grpc.RpcError) as caught:
            list(answers)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert steps_evaluated() <= STEPS / 2


@pytest.fixture
def narrow_server(tmp_path):
    """One clip at a time, one request that waits, and clips that take a while."""
    repository = write_fake_repository(tmp_path / "repository", unet_work=240)
    file = repository / "text_to_video" / "config.pbtxt"
    config = text_format.Parse(file.read_text(), model_config_pb2.ModelConfig())
    for name in ("max_running_requests", "max_waiting_requests"):
        config.parameters[name].string_value = "1"
    file.write_text(text_format.MessageToString(config))
    settings = ServerSettings.on_free_ports(repository, tmp_path / "log", ready_timeout_s=300.0)
    with TritonServer(settings) as running:
        yield running


def test_a_full_queue_refuses_bad_requests_at_once_and_forgets_who_left(narrow_server):
    url = narrow_server.settings.grpc_url
    with (
        Client(url, retries=0) as client,
        admin_client(url) as operator,
        grpc.insecure_channel(url) as channel,
    ):

        def waits():
            with pytest.raises(ServerError) as refusal:
                client.generate("a cat", policy="base", timeout_s=0.3)
            return isinstance(refusal.value, DeadlineExceeded)

        stream = client.stream("a cat", policy="base", num_inference_steps=12)
        next(stream)
        with pytest.raises(RequestRejected, match="prompt is empty"):
            client.generate("")
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        waiting = stub.ModelStreamInfer(iter([build_request({"prompt": "x", "policy": "base"})]))
        wait_until(lambda: not waits())
        waiting.cancel()
        wait_until(waits)
        assert denoiser_rows(operator) < 2 * 12, "the first clip is still being made"
        stream.close()


def test_what_triton_itself_refuses_comes_as_text_in_the_stream(server):
    request = build_request({"prompt": "a cat", "policy": "base"})
    request.inputs[0].datatype = "INT32"
    with grpc.insecure_channel(server.settings.grpc_url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        (answer,) = stub.ModelStreamInfer(iter([request]), timeout=60)
    assert "data-type is 'INT32'" in answer.error_message


def test_the_pointer_moves_between_requests(client, fake_repository):
    first = client.generate("a cat", policy="family", seed=1)
    named = client.generate("a cat", policy="family", seed=1, revision=2)
    file = fake_repository / "policies.json"
    before = file.read_text()
    try:
        record = json.loads(before)
        record["policies"]["family"]["active"] = 2
        file.write_text(json.dumps(record))
        promoted = client.generate("a cat", policy="family", seed=1)
    finally:
        file.write_text(before)
    assert (first.record.revision, promoted.record.revision) == (1, 2)
    assert promoted.frames.tobytes() == named.frames.tobytes() != first.frames.tobytes()


@pytest.mark.parametrize("model", ["text_encoder", "prompt_encoder"])
def test_prompts_are_unavailable_while_their_encoder_is_not_loaded(client, operator, model):
    operator.unload_model(model)
    try:
        wait_until(lambda: not operator.is_model_ready(model))
        with pytest.raises(RequestRejected, match="policy family, revision 1, cannot be") as caught:
            client.generate("a cat", policy="family")
        assert caught.value.status == "UNAVAILABLE"
    finally:
        operator.load_model(model)
    assert isinstance(client.generate("a cat", policy="family"), Clip)


def test_the_metrics_are_served(server):
    settings = server.settings
    url = f"http://{settings.host}:{settings.metrics_port}/metrics"
    with urllib.request.urlopen(url) as response:
        assert b'nv_inference_request_success{model="video_denoiser"' in response.read()
