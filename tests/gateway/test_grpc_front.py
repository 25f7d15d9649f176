"""The gateway over gRPC: clips pass, and every way round it ends in one sentence."""

import json
import queue
import struct
import time

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc
from wire_fakes import error

from gateway_fakes import FRAMES, TOKENS, good_answer, result, stuck, wait_until
from unsee.client.client import Client
from unsee.client.messages import build_request
from unsee.core.errors import RequestRejected
from unsee.core.files import write_file
from unsee.media.clip import Progress
from unsee.repository.layout import base_file

METHODS = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
SERVED = {
    *("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata"),
    "ModelStreamInfer",
}
WHO = (("authorization", f"Bearer {TOKENS['kids']}"),)


@pytest.fixture
def served(serve):
    return serve(http=None, limits={"read_timeout_s": 1.0, "drain_timeout_s": 0.5})


@pytest.fixture
def client(served):
    with Client(served.addresses.grpc, token=TOKENS["kids"], timeout_s=20) as client:
        yield client


@pytest.fixture
def stub(served):
    with grpc.insecure_channel(served.addresses.grpc) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


@pytest.fixture(scope="module")
def idle(serve_all):
    """The channel of a gateway for requests that never reach Triton."""
    served = serve_all(http=None, limits={"read_timeout_s": 1.0, "drain_timeout_s": 0.5})
    with grpc.insecure_channel(served.addresses.grpc) as channel:
        yield channel
    assert (served.triton.streams, served.triton.calls) == ([], [])


@pytest.fixture(scope="module")
def idle_stub(idle):
    return service_pb2_grpc.GRPCInferenceServiceStub(idle)


def stream(stub, *requests, metadata=WHO, timeout=20):
    return list(stub.ModelStreamInfer(iter(requests), metadata=metadata, timeout=timeout))


def refused(call, *arguments, **options):
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **options)
    details = caught.value.details()
    assert "Traceback" not in details
    assert ".py" not in details
    return caught.value.code().name, details


def test_a_clip_passes_with_its_progress(client, served):
    *steps, clip = client.stream("a cat", seed=7, num_inference_steps=3)
    assert steps == [Progress(k, 3) for k in (1, 2, 3)]
    np.testing.assert_array_equal(clip.frames, FRAMES)
    assert clip.record.policy == "family"


def test_only_inputs_reach_triton_and_the_policy_is_always_named(stub, served):
    request = build_request({"prompt": "a cat"})
    request.id = "mine"
    metadata = (*WHO, ("triton_grpc_error", "true"), ("x-other", "1"))
    answers = stream(stub, request, metadata=metadata)
    (seen,) = served.triton.streams
    assert {t.name for t in seen.inputs} == {"prompt", "policy"}
    assert seen.id not in ("", "mine")
    assert {a.infer_response.id for a in answers} == {"mine"}
    (metadata,) = served.triton.metadata
    assert not {"authorization", "triton_grpc_error", "x-other"} & metadata.keys()


def test_equal_ids_of_two_tenants_do_not_meet(stub, served):
    request = build_request({"prompt": "a cat", "policy": "family"})
    request.id = "same"
    stream(stub, request)
    stream(stub, request, metadata=(("authorization", f"Bearer {TOKENS['studio']}"),))
    first, second = served.triton.streams
    assert first.id != second.id


def test_several_requests_of_one_stream_are_answered_in_turn(stub):
    requests = [build_request({"prompt": prompt}) for prompt in ("a", "b")]
    for number, request in enumerate(requests):
        request.id = str(number)
    ids = [answer.infer_response.id for answer in stream(stub, *requests)]
    assert ids == ["0"] * 4 + ["1"] * 4


@pytest.mark.parametrize("name", sorted(set(METHODS) - SERVED))
def test_every_other_method_of_triton_is_closed(idle, name):
    call = idle.unary_unary(f"/inference.GRPCInferenceService/{name}")
    status, details = refused(call, b"", metadata=WHO)
    assert (status, details) == ("PERMISSION_DENIED", "this method is not served by the gateway")


@pytest.mark.parametrize(
    "path",
    [
        "/inference.GRPCInferenceService/modelstreaminfer",
        "/inference.GRPCInferenceService//ModelStreamInfer",
        "/inference.grpcinferenceservice/ModelStreamInfer",
        "/grpc.health.v1.Health/Check",
        "/x",
    ],
)
def test_what_is_no_method_is_said_to_be_none(idle, path):
    assert refused(idle.unary_unary(path), b"", metadata=WHO)[0] == "UNIMPLEMENTED"


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", "Bearer wrong"),),
        (("authorization", f"Basic {TOKENS['kids']}"),),
        (("authorization", f"Bearer {TOKENS['kids']}x"),),
        (*WHO, ("authorization", f"Bearer {TOKENS['studio']}")),
        (("authorization", "Bearer"),),
        (("authorization", ""),),
    ],
)
def test_who_is_not_known_gets_nothing(idle_stub, metadata):
    request = build_request({"prompt": "a cat"})
    asked = service_pb2.ModelMetadataRequest(name="text_to_video")
    known = {"metadata": metadata}
    assert refused(stream, idle_stub, request, **known)[0] == "UNAUTHENTICATED"
    assert refused(idle_stub.ModelMetadata, asked, **known)[0] == "UNAUTHENTICATED"
    asked = service_pb2.ServerMetadataRequest()
    assert refused(idle_stub.ServerMetadata, asked, **known)[0] == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    "policy", ["base", "studio-x", "", "family ", "FAMILY", "../family", "b\0"]
)
def test_a_caller_bound_to_a_policy_gets_no_other(idle_stub, policy):
    request = build_request({"prompt": "a cat", "policy": policy})
    status, details = refused(stream, idle_stub, request)
    assert status == "PERMISSION_DENIED"
    assert "may not ask for the policy" in details


def test_who_may_choose_gets_what_it_names_and_else_its_default(served, client):
    with Client(served.addresses.grpc, token=TOKENS["studio"], timeout_s=20) as studio:
        assert studio.generate("a").record.policy == "studio-x"
        assert studio.generate("a", policy="base").record.policy == "base"
        assert studio.generate("a", revision=1).record.policy == "studio-x"
    with pytest.raises(RequestRejected, match="may not choose a revision"):
        client.generate("a", revision=1)


def test_an_operator_without_policies_gets_no_clip(idle_stub):
    admin = (("authorization", f"Bearer {TOKENS['admin']}"),)
    request = build_request({"prompt": "a"})
    assert "its policies: none" in refused(stream, idle_stub, request, metadata=admin)[1]


@pytest.mark.parametrize(
    "model",
    [
        *("text_encoder", "prompt_encoder", "policy_base", "policy_family"),
        *("video_denoiser", "vae_decoder", "", "TEXT_TO_VIDEO"),
    ],
)
def test_inner_models_are_out_of_reach(idle_stub, model):
    request = build_request({"prompt": "a cat"})
    request.model_name = model
    assert refused(stream, idle_stub, request)[0] == "PERMISSION_DENIED"
    asked = service_pb2.ModelMetadataRequest(name=model)
    assert refused(idle_stub.ModelMetadata, asked, metadata=WHO)[0] == "PERMISSION_DENIED"
    asked = service_pb2.ModelReadyRequest(name=model)
    assert refused(idle_stub.ModelReady, asked, metadata=WHO)[0] == "PERMISSION_DENIED"


def changed(**changes):
    request = build_request({"prompt": "a cat", "seed": 1})
    for path, value in changes.items():
        match path:
            case "parameter":
                request.parameters[value].int64_param = 1
            case "input_parameter":
                request.inputs[0].parameters[value].string_param = "region"
            case "output_parameter":
                output = request.outputs.add(name="frames")
                output.parameters[value].string_param = "region"
            case "output":
                request.outputs.add(name=value)
            case "datatype":
                request.inputs[1].datatype = value
            case "shape":
                request.inputs[1].shape[:] = value
            case "raw":
                request.raw_input_contents[1] = value
            case "raw_prompt":
                request.raw_input_contents[0] = value
            case "name":
                request.inputs[1].name = value
            case "version":
                request.model_version = value
            case "id":
                request.id = value
            case "no_raw":
                del request.raw_input_contents[:]
    return request


@pytest.mark.parametrize(
    "change",
    [
        {"parameter": "shared_memory_region"},
        {"parameter": "sequence_id"},
        {"parameter": "priority"},
        {"parameter": "timeout"},
        {"parameter": "triton_enable_empty_final_response"},
        {"input_parameter": "shared_memory_region"},
        {"input_parameter": "shared_memory_byte_size"},
        {"output_parameter": "shared_memory_region"},
        {"output_parameter": "classification"},
        {"output": "encoder_hidden_states"},
        {"datatype": "INT32"},
        {"datatype": "FP64"},
        {"datatype": ""},
        {"shape": [1, 1]},
        {"shape": [2**62]},
        {"shape": [-1]},
        {"shape": []},
        {"raw": b""},
        {"raw": b"x" * 9},
        {"raw_prompt": struct.pack("<I", 2**32 - 1) + b"a"},
        {"raw_prompt": b"\x01\x00\x00"},
        {"raw_prompt": struct.pack("<I", 2) + b"\xc3\x28"},
        {"name": "prompt"},
        {"name": "input_ids"},
        {"id": "a" * 200},
        {"id": "line\nbreak"},
        {"no_raw": True},
    ],
    ids=str,
)
def test_only_known_inputs_of_the_right_type_pass(idle_stub, change):
    status, details = refused(stream, idle_stub, changed(**change))
    assert status == "INVALID_ARGUMENT"
    assert len(details) < 300


def test_another_version_of_the_model_is_not_served(idle_stub):
    assert refused(stream, idle_stub, changed(version="2"))[0] == "PERMISSION_DENIED"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_guidance_must_be_finite(idle_stub, value):
    request = build_request({"prompt": "a", "guidance_scale": value})
    status, details = refused(stream, idle_stub, request)
    assert status == "INVALID_ARGUMENT"
    assert "finite" in details


@pytest.mark.parametrize("message", [b"\xff", b"\x0a\xff\xff\xff\xff\x0f", bytes(100), b"\x08\x96"])
def test_malformed_bytes_are_an_argument(idle, message):
    wrong = ("INVALID_ARGUMENT", "PERMISSION_DENIED")
    for name in ("ModelMetadata", "ModelReady"):
        call = idle.unary_unary(f"/inference.GRPCInferenceService/{name}")
        assert refused(call, message, metadata=WHO)[0] in wrong
    call = idle.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    assert refused(lambda: list(call(iter([message]), metadata=WHO)))[0] in wrong


@pytest.mark.parametrize(
    ("length", "compression", "status"),
    [
        (20_000, grpc.Compression.NoCompression, "INVALID_ARGUMENT"),
        (100_000, grpc.Compression.NoCompression, "RESOURCE_EXHAUSTED"),
        (10_000_000, grpc.Compression.Gzip, "RESOURCE_EXHAUSTED"),  # it is small on the wire
    ],
)
def test_a_big_message_is_refused(idle_stub, length, compression, status):
    requests = iter([build_request({"prompt": "a" * length})])
    call = idle_stub.ModelStreamInfer(requests, metadata=WHO, timeout=20, compression=compression)
    assert refused(list, call)[0] == status


def test_a_stream_ends_with_the_token_that_began_it(stub, served):
    requests = queue.SimpleQueue()
    call = stub.ModelStreamInfer(iter(requests.get, None), metadata=WHO, timeout=20)
    requests.put(build_request({"prompt": "a cat"}))
    for _ in range(4):
        next(call)
    without = {"tenants": tuple(t for t in served.settings.tenants if t.name != "kids")}
    served.gateway.use_tenants(served.settings.model_copy(update=without))
    requests.put(build_request({"prompt": "a cat"}))
    assert refused(next, call)[0] == "UNAUTHENTICATED"
    requests.put(None)


def test_big_metadata_is_refused(idle_stub):
    metadata = (*WHO, ("x-big", "a" * 20_000))
    status, _ = refused(stream, idle_stub, build_request({"prompt": "a cat"}), metadata=metadata)
    assert status in ("RESOURCE_EXHAUSTED", "INTERNAL")


def test_a_stream_that_brings_no_request_is_ended(idle_stub):
    def silent():
        time.sleep(5)
        yield build_request({"prompt": "late"})

    started = time.monotonic()
    call = idle_stub.ModelStreamInfer(silent(), metadata=WHO, timeout=20)
    assert refused(list, call)[0] == "INVALID_ARGUMENT"
    assert time.monotonic() - started < 4


def test_leaving_cancels_in_triton_and_frees_the_place(client, served):
    served.triton.answer = stuck
    events = client.stream("a")
    next(events)
    assert served.gateway.admission.running == 1
    events.close()
    assert served.triton.cancelled.wait(5)
    wait_until(lambda: served.gateway.admission.running == 0)


@pytest.mark.parametrize(
    ("text", "status", "sentence"),
    [
        ("INVALID_ARGUMENT: height must be 64", "INVALID_ARGUMENT", "height must be 64"),
        ("INTERNAL: the server failed; its log says why", "INTERNAL", "the server failed"),
        ('NOT_FOUND: there is no policy "x"; it has: base, secret', "NOT_FOUND", "no such policy"),
        ("failed at /srv/models/model.py line 3", "UNAVAILABLE", "does not answer as it should"),
    ],
)
def test_the_models_sentences_pass_and_tritons_own_do_not(client, served, text, status, sentence):
    async def refuse(inputs, context):
        await context.write(error(text))

    served.triton.answer = refuse
    with pytest.raises(RequestRejected, match=sentence) as caught:
        client.generate("a", retries=0)
    assert caught.value.status == status
    assert "/srv" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "incidents"),
    [
        ("NOT_FOUND: the policy family has no revision 9; it offers 1, 2", 0),
        ("NOT_FOUND: there is no policy 'family'; this server has base", 1),
    ],
)
def test_a_caller_that_names_a_wrong_revision_is_no_incident(served, text, incidents):
    async def refuse(inputs, context):
        await context.write(error(text))

    served.triton.answer = refuse
    with (
        Client(served.addresses.grpc, token=TOKENS["studio"], timeout_s=20) as client,
        pytest.raises(RequestRejected) as caught,
    ):
        client.generate("a", policy="family", revision=9, retries=0)
    assert caught.value.status == "NOT_FOUND"
    assert len(served.gateway.ledger.incidents) == incidents


def test_what_triton_adds_to_an_answer_stays_behind(stub, served):
    async def chatty(inputs, context):
        answer = result(inputs)
        answer.infer_response.parameters["triton_final_response"].bool_param = True
        answer.infer_response.outputs.add(name="hidden", datatype="UINT8", shape=[1])
        answer.infer_response.raw_output_contents.append(b"x")
        await context.write(answer)

    served.triton.answer = chatty
    (answer,) = stream(stub, build_request({"prompt": "a"}))
    assert {output.name for output in answer.infer_response.outputs} == {"event", "frames"}
    assert not answer.infer_response.parameters


def test_health_needs_no_token_and_tells_the_truth(stub, served):
    assert stub.ServerLive(service_pb2.ServerLiveRequest()).live
    assert stub.ServerReady(service_pb2.ServerReadyRequest()).ready
    asked = service_pb2.ModelReadyRequest(name="text_to_video", version="1")
    assert stub.ModelReady(asked, metadata=WHO).ready
    assert stub.ModelMetadata(
        service_pb2.ModelMetadataRequest(name="text_to_video"), metadata=WHO
    ).versions == ["1"]
    assert served.triton.answer is good_answer


CLIP = {"num_frames": 32, "height": 512, "width": 512}  # 25 MB in one message


@pytest.fixture
def sized(serve, repository):
    """A gateway that knows the base's sizes."""

    def start(**limits):
        return serve(http=None, repository=str(repository), limits=limits)

    return start


def test_a_clip_that_the_caller_cannot_take_is_refused_before_it_is_made(sized):
    served = sized()
    request = build_request({"prompt": "a cat", **CLIP})
    with grpc.insecure_channel(served.addresses.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        takes = (*WHO, ("max-receive-bytes", str(4 * 1024 * 1024)))
        status, details = refused(stream, stub, request, metadata=takes)
        assert status == "INVALID_ARGUMENT"
        assert "one message of 25.2 MB, and this caller takes 4.19 MB" in details
        assert "max-receive-bytes" in details
        assert "HTTP" in details
        for said in ("", "0", "-1", "4MiB", "1e6", "9" * 30):
            assert refused(stream, stub, request, metadata=(*WHO, (takes[-1][0], said))) == (
                "INVALID_ARGUMENT",
                "the metadata max-receive-bytes must be one whole number",
            )
        assert served.triton.streams == []
        enough = (*WHO, ("max-receive-bytes", str(64 * 1024 * 1024)))
        assert stream(stub, request, metadata=enough)  # and who does not say gets it made
        assert stream(stub, request)
        small = build_request({"prompt": "a cat"})  # of the base's own size
        assert stream(stub, small, metadata=takes)
    assert len(served.triton.streams) == 3


def test_of_a_streamed_clip_the_caller_takes_the_parts(sized, repository):
    served = sized()
    takes = (*WHO, ("max-receive-bytes", str(4 * 1024 * 1024)))
    streamed = build_request({"prompt": "a cat", "stream_frames": True, **CLIP})
    with grpc.insecure_channel(served.addresses.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        told = refused(stream, stub, streamed, metadata=takes)[1]  # all frames at once
        assert told.startswith("a part of the clip would be one message of 25.2 MB")
        base = json.loads(base_file(repository).read_text())
        base["latents"]["frames_per_latent"] = 4
        write_file(base_file(repository), json.dumps(base).encode())
        assert stream(stub, streamed, metadata=takes)


def test_what_callers_take_who_do_not_say(sized):
    served = sized(grpc_receive_bytes=4 * 1024 * 1024)
    request = build_request({"prompt": "a cat", **CLIP})
    with grpc.insecure_channel(served.addresses.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert refused(stream, stub, request)[0] == "INVALID_ARGUMENT"
    with Client(served.addresses.grpc, token=TOKENS["kids"]) as client:
        assert client.generate("a cat", **CLIP).record.policy == "family"
        with pytest.raises(RequestRejected, match=r"this caller takes 268 MB"):
            client.generate("a cat", num_frames=500, height=512, width=512)
