"""A running Triton server as its operator uses it: load, list, unload and ask models.

Every call goes through `Server.call` or `Server.stream`, which show the server's admin key with it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from math import prod
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc

from unsee.client.messages import build_request
from unsee.core.errors import RequestRejected, ServerError, ServerUnreachable
from unsee.repository.layout import TEXT_TO_VIDEO
from unsee.triton.admin_key import NEEDS_KEY, admin_headers, missing_key
from unsee.triton.prompt_request import PROMPT_EMBEDS, prompt_request

ASK_TIMEOUT_S = 5.0
LOAD_TIMEOUT_S = 300.0
PROBE_TIMEOUT_S = 60.0
ALIVE = "unsee_alive"
"""The stand-in backends answer a request with this parameter at once, without computing."""
UNHEALTHY = "is not healthy"
"""Triton's words for a process that has not said for a second that it lives."""
_NO_ANSWER = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
_ITEM_BYTES = {"INT64": 8, "INT32": 4, "FP32": 4, "BYTES": 4}
"""A text of BYTES whose length of 4 bytes is zero is empty."""


@dataclass(frozen=True, order=True)
class ModelVersion:
    """One version of one Triton model."""

    model: str
    version: int

    def __str__(self) -> str:
        return f"{self.model}, version {self.version}"


class VersionState(Enum):
    """What a server makes of one version of a model."""

    LOADED = "loaded"
    CHANGING = "being loaded or unloaded"
    FAILED = "could not be loaded"
    UNLOADED = "unloaded"


@dataclass(frozen=True)
class Server:
    """The Triton server at `url`, host and gRPC port.

    Each call has a connection of its own: an old one may wait long to find a new server, which has
    another key too.

    Every method raises ServerUnreachable when nobody answers, RequestRejected when the server
    refuses.
    """

    url: str

    def check_live(self) -> None:
        """Raise ServerUnreachable when nobody answers.

        Readiness is not asked for: while a dead process is replaced, a server is not ready.
        """
        self.call("ServerLive", service_pb2.ServerLiveRequest(), ASK_TIMEOUT_S)

    def load(self, model: str) -> None:
        """Load the versions that are new or younger in the folder of `model`.

        Raises:
            RequestRejected: a version cannot be loaded; the others go on serving.
        """
        request = service_pb2.RepositoryModelLoadRequest(model_name=model)
        self.call("RepositoryModelLoad", request, LOAD_TIMEOUT_S)

    def unload(self, model: str, timeout_s: float = LOAD_TIMEOUT_S) -> None:
        """Take no more requests for `model`; those that it has go on. Nothing if it is not loaded.

        Triton answers when the last of them has ended.
        """
        request = service_pb2.RepositoryModelUnloadRequest(model_name=model)
        self.call("RepositoryModelUnload", request, timeout_s)

    def index(self) -> dict[ModelVersion, VersionState]:
        """What the server knows of all versions, those that it has unloaded included."""
        found = self.call("RepositoryIndex", service_pb2.RepositoryIndexRequest(), ASK_TIMEOUT_S)
        return {
            ModelVersion(entry.name, int(entry.version)): _state(entry.state, entry.reason)
            for entry in found.models
            if entry.version.isdigit()
        }

    def versions(self, model: str) -> dict[int, VersionState]:
        """What the server knows of the versions of `model`."""
        found = self.index().items()
        return {known.version: state for known, state in found if known.model == model}

    def probe(self, policy: str, revision: int, golden: Mapping[str, NDArray[Any]]) -> float:
        """How far what the server makes of a policy's revision is from what was recorded.

        Args:
            golden: `input_ids` and `attention_mask` INT64 [B, L], and the expected `prompt_embeds`
                FP32 [B, L, D].

        Returns:
            The largest absolute difference over the largest absolute expected value; NaN or inf
            when the answer is not finite or has another shape.
        """
        expected = golden[PROMPT_EMBEDS]
        request = prompt_request(policy, revision, golden["input_ids"], golden["attention_mask"])
        answer = self.call("ModelInfer", request, PROBE_TIMEOUT_S)
        if not answer.outputs or tuple(answer.outputs[0].shape) != expected.shape:
            return float("inf")
        served = np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(expected.shape)
        return float(np.abs(served - expected).max() / np.abs(expected).max())

    def answers(self, version: ModelVersion, timeout_s: float) -> bool:
        """Whether the process of a version answers in time a question that takes no computing.

        `text_to_video` refuses a request without a prompt, `prompt_encoder` one without a policy,
        and the stand-in backends answer one that is marked `ALIVE` in its turn. Any refusal but
        Triton's own for a silent process counts.
        """
        try:
            if version.model == TEXT_TO_VIDEO:
                answers = list(self.stream(build_request({"prompt": ""}), timeout_s))
                return not any(UNHEALTHY in answer.error_message for answer in answers)
            named = {"name": version.model, "version": str(version.version)}
            metadata = self._call(
                "ModelMetadata", service_pb2.ModelMetadataRequest(**named), timeout_s
            )
            request = zeros_request(version.model, str(version.version), metadata)
            request.parameters[ALIVE].bool_param = True
            self._call("ModelInfer", request, timeout_s)
        except grpc.RpcError as error:
            return error.code() not in _NO_ANSWER and UNHEALTHY not in str(error.details())
        return True

    def stream(self, request: Any, timeout_s: float) -> Generator[Any, None, None]:
        """The answers to one request of a decoupled model; raises grpc.RpcError.

        Closing the iterator before its end cancels the request.
        """
        with grpc.insecure_channel(self.url, _OPTIONS) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            call = stub.ModelStreamInfer(
                iter([request]), timeout=timeout_s, metadata=admin_headers(self.url)
            )
            try:
                yield from call
            finally:
                call.cancel()

    def call(self, method: str, request: Any, timeout_s: float) -> Any:
        """The answer of one of Triton's gRPC methods."""
        with self._translated_errors():
            return self._call(method, request, timeout_s)

    def _call(self, method: str, request: Any, timeout_s: float) -> Any:
        with grpc.insecure_channel(self.url, _OPTIONS) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            return getattr(stub, method)(
                request, timeout=timeout_s, metadata=admin_headers(self.url)
            )

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            if error.code() in _NO_ANSWER and not self._is_live():
                raise ServerUnreachable(
                    f"no server answers at {self.url}; start one with: unsee serve"
                ) from error
            if NEEDS_KEY in str(error.details()):
                raise ServerError(missing_key(self.url)) from error
            raise RequestRejected(_first_reason(str(error.details())), error.code().name) from error

    def _is_live(self) -> bool:
        try:
            self._call("ServerLive", service_pb2.ServerLiveRequest(), ASK_TIMEOUT_S)
        except grpc.RpcError:
            return False
        return True


_OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]


def zeros_request(model: str, version: str, metadata: Any) -> Any:
    """A ModelInferRequest with zeros or empty texts as inputs, each free axis of length 1.

    Args:
        metadata: the model's ModelMetadataResponse.

    Raises:
        ServerError: an input has a type that no model of Unsee has.
    """
    request = service_pb2.ModelInferRequest(model_name=model, model_version=version)
    for tensor in metadata.inputs:
        if tensor.datatype not in _ITEM_BYTES:
            raise ServerError(f"the model {model} has an input of type {tensor.datatype}")
        shape = [max(1, size) for size in tensor.shape]
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=shape)
        request.raw_input_contents.append(bytes(_ITEM_BYTES[tensor.datatype] * prod(shape)))
    return request


def _state(state: str, reason: str) -> VersionState:
    if state == "READY":
        return VersionState.LOADED
    if state in ("LOADING", "UNLOADING"):
        return VersionState.CHANGING
    return VersionState.UNLOADED if reason in ("", "unloaded") else VersionState.FAILED


def _first_reason(message: str) -> str:
    """Triton's message in one line, without the source lines that its Python backends append."""
    return " ".join(message.partition("\n\nAt:\n")[0].split()).rstrip(" ;")
