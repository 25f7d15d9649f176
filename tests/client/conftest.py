"""A gRPC server in this process that answers like the `text_to_video` model, without Triton.

It knows the wire format only: a test hands it the function that answers a request.
"""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import wire_fakes
from tritonclient.grpc import service_pb2
from wire_fakes import decoded, event, progress

RECORD = wire_fakes.RECORD | {
    "prompt": "Blimbo walking",
    "negative_prompt": "",
    "edit_digest": "sha256:aa",
    "num_frames": 4,
    "width": 24,
    "seconds": {"text_encoder": 0.1, "video_denoiser": 0.7, "vae_decoder": 0.2},
    "graphs": {"video_denoiser": "sha256:cc"},
}

Answer = Callable[[dict[str, Any], grpc.ServicerContext], Iterator[Any]]


def frames(num_frames: int = 4, height: int = 16, width: int = 24) -> np.ndarray:
    """Flat colours that change from frame to frame, left half and right half."""
    clip = np.zeros((num_frames, height, width, 3), np.uint8)
    for k in range(num_frames):
        clip[k, :, : width // 2] = (200, 40 + 40 * k, 60)
        clip[k, :, width // 2 :] = (30, 90, 220 - 40 * k)
    return clip


def empty_end() -> Any:
    """The empty final response that Triton can send."""
    return service_pb2.ModelStreamInferResponse(infer_response=service_pb2.ModelInferResponse())


def good_answer(inputs: dict[str, Any], context: grpc.ServicerContext) -> Iterator[Any]:
    for step in (1, 2, 3):
        yield progress(step)
    record = RECORD | {"prompt": inputs["prompt"]}
    yield event({"type": "result", "record": record}, frames())
    yield empty_end()


def one_step_and_silence(inputs: dict[str, Any], context: grpc.ServicerContext) -> Iterator[Any]:
    """As a model that is stuck, until the caller goes away."""
    yield progress(1)
    while context.is_active():
        time.sleep(0.01)


class FakeServer(wire_fakes.LocalServer):
    """Serves `answer`; `requests` are the inputs it saw, `cancelled` says a call was broken off."""

    def __init__(self) -> None:
        self.answer: Answer = good_answer
        self.requests: list[dict[str, Any]] = []
        self.metadata: dict[str, str] = {}
        self.cancelled = threading.Event()
        super().__init__()

    def ModelStreamInfer(self, request_iterator: Any, context: Any) -> Iterator[Any]:
        self.metadata = {key: str(value) for key, value in context.invocation_metadata()}
        finished: list[bool] = []
        context.add_callback(lambda: finished or self.cancelled.set())
        for request in request_iterator:
            inputs = decoded(request)
            self.requests.append(inputs)
            yield from self.answer(inputs, context)
        finished.append(True)


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
