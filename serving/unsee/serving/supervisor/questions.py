"""Questions that a model's process answers at once, if it answers at all.

`text_to_video` refuses a clip without a prompt; the stand-in backends answer a request with the
parameter `unsee_alive` with zeros, in its turn and without computing the graph. Knows requests and
Triton's words for a process that does not answer, no processes.
"""

from __future__ import annotations

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from unsee.client.messages import MODEL, build_request
from unsee.serving.supervisor.stubs import ModelVersion

ALIVE = "unsee_alive"
SIZES = {"INT64": 8, "INT32": 4, "FP32": 4}
UNHEALTHY = "is not healthy"
"""Triton's words for a process that has not said for a second that it lives."""
NO_ANSWER = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)


def answers(url: str, version: ModelVersion, timeout_s: float) -> bool:
    """Whether the process of a version answers in time; a refusal is an answer too."""
    try:
        with grpc.insecure_channel(url, [("grpc.enable_http_proxy", 0)]) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            ask = _ask_text_to_video if version.model == MODEL else _ask_graph
            words = ask(stub, version, timeout_s)
    except grpc.RpcError as error:
        return error.code() not in NO_ANSWER and UNHEALTHY not in str(error.details())
    return UNHEALTHY not in words


def _ask_text_to_video(
    stub: service_pb2_grpc.GRPCInferenceServiceStub, version: ModelVersion, timeout_s: float
) -> str:
    request = build_request({"prompt": ""})
    answered = stub.ModelStreamInfer(iter([request]), timeout=timeout_s)
    return " ".join(answer.error_message for answer in answered)


def _ask_graph(
    stub: service_pb2_grpc.GRPCInferenceServiceStub, version: ModelVersion, timeout_s: float
) -> str:
    named = {"name": version.model, "version": str(version.version)}
    metadata = stub.ModelMetadata(service_pb2.ModelMetadataRequest(**named), timeout=timeout_s)
    request = service_pb2.ModelInferRequest(
        model_name=version.model, model_version=str(version.version)
    )
    request.parameters[ALIVE].bool_param = True
    for tensor in metadata.inputs:
        shape = [max(1, size) for size in tensor.shape]
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=shape)
        size = SIZES.get(tensor.datatype, 0)
        for length in shape:
            size *= length
        request.raw_input_contents.append(bytes(size))
    stub.ModelInfer(request, timeout=timeout_s)
    return ""
