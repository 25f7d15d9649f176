"""A gRPC server in this process that answers like the `text_to_video` model, without Triton.

It knows the wire format only: a test hands it the function that answers a request.
"""

import json
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

RECORD = {
    "prompt": "Blimbo walking",
    "negative_prompt": "",
    "policy": "family",
    "revision": 2,
    "encoder_digest": "sha256:aa",
    "base": "tiny",
    "base_digest": "sha256:bb",
    "seed": 7,
    "scheduler": "DDIMScheduler",
    "num_inference_steps": 3,
    "guidance_scale": 3.5,
    "num_frames": 4,
    "height": 16,
    "width": 24,
    "fps": 8,
    "started_at": "2026-01-01T00:00:00Z",
    "seconds": {"text_encoder": 0.1, "video_unet": 0.7, "vae_decoder": 0.2},
    "graphs": {"video_unet": "sha256:cc"},
}

Answer = Callable[[dict[str, Any], grpc.ServicerContext], Iterator[Any]]


def frames(num_frames: int = 4, height: int = 16, width: int = 24) -> np.ndarray:
    """Flat colours that change from frame to frame, left half and right half."""
    clip = np.zeros((num_frames, height, width, 3), np.uint8)
    for k in range(num_frames):
        clip[k, :, : width // 2] = (200, 40 + 40 * k, 60)
        clip[k, :, width // 2 :] = (30, 90, 220 - 40 * k)
    return clip


def event(content: dict[str, Any], clip: np.ndarray | None = None) -> Any:
    """A response with the `event` output and, when given, the `frames`."""
    text = json.dumps(content).encode()
    response = service_pb2.ModelInferResponse(model_name="text_to_video")
    if clip is not None:  # first, so that a reader must not rely on the order
        response.outputs.add(name="frames", datatype="UINT8", shape=clip.shape)
        response.raw_output_contents.append(clip.tobytes())
    response.outputs.add(name="event", datatype="BYTES", shape=[1])
    response.raw_output_contents.append(struct.pack("<I", len(text)) + text)
    return service_pb2.ModelStreamInferResponse(infer_response=response)


def empty_end() -> Any:
    """The empty final response that Triton can send."""
    return service_pb2.ModelStreamInferResponse(infer_response=service_pb2.ModelInferResponse())


def good_answer(inputs: dict[str, Any], context: grpc.ServicerContext) -> Iterator[Any]:
    for step in (1, 2, 3):
        yield event({"type": "progress", "step": step, "num_inference_steps": 3})
    record = RECORD | {"prompt": inputs["prompt"]}
    yield event({"type": "result", "record": record}, frames())
    yield empty_end()


def one_step_and_silence(inputs: dict[str, Any], context: grpc.ServicerContext) -> Iterator[Any]:
    """As a model that is stuck, until the caller goes away."""
    yield event({"type": "progress", "step": 1, "num_inference_steps": 3})
    while context.is_active():
        time.sleep(0.01)


class FakeServer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Serves `answer`; `requests` are the inputs it saw, `cancelled` says a call was broken off."""

    def __init__(self) -> None:
        self.answer: Answer = good_answer
        self.requests: list[dict[str, Any]] = []
        self.metadata: dict[str, str] = {}
        self.cancelled = threading.Event()
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.url = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def ServerLive(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerLiveResponse(live=True)

    def ModelStreamInfer(self, request_iterator: Any, context: Any) -> Iterator[Any]:
        self.metadata = {key: str(value) for key, value in context.invocation_metadata()}
        finished: list[bool] = []
        context.add_callback(lambda: finished or self.cancelled.set())
        for request in request_iterator:
            inputs = _decoded(request)
            self.requests.append(inputs)
            yield from self.answer(inputs, context)
        finished.append(True)

    def stop(self) -> None:
        self._server.stop(grace=None).wait()


def _decoded(request: Any) -> dict[str, Any]:
    formats = {"INT64": "<q", "INT32": "<i", "FP32": "<f"}
    values: dict[str, Any] = {}
    for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
        assert list(tensor.shape) == [1]
        if tensor.datatype == "BYTES":
            assert struct.unpack_from("<I", raw)[0] == len(raw) - 4
            values[tensor.name] = raw[4:].decode()
        else:
            (values[tensor.name],) = struct.unpack(formats[tensor.datatype], raw)
    return values


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    yield fake
    fake.stop()


@pytest.fixture
def fake() -> Any:
    """This module, for the tests that build answers of their own."""
    import sys

    return sys.modules[__name__]


@pytest.fixture
def expected_frames() -> np.ndarray:
    return frames()
