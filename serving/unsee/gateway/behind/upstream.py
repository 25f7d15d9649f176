"""Triton behind the gateway: one stream per clip, and questions that tell whether it is alive.

Sends nothing that came from a caller but checked inputs: no metadata (this Triton can crash on
`triton_grpc_error`), no parameters, no ids. What Triton says in its own words stays in the log.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, get_args

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from unsee.client.messages import MODEL, STOPPING, build_request, read_response
from unsee.core.errors import ServerError
from unsee.core.policy import BASE_POLICY
from unsee.gateway.callers.refusal import Reason, Refusal, Status
from unsee.gateway.callers.request import OUTPUTS
from unsee.media.clip import Clip, Part, Progress
from unsee.repository.layout import TEXT_ENCODER, VERSION
from unsee.triton.prompt_request import prompt_request

LOGGER = logging.getLogger("unsee.gateway")
MAX_ANSWER_BYTES = 1024 * 1024 * 1024
ERROR_TEXT = re.compile(rf"({'|'.join(get_args(Status))}): (.+)", re.DOTALL)
PROBE_PROMPT = ""
"""`text_to_video` refuses it before any work: whoever answers so is alive."""
BUSY_RETRY_S = 2.0
NOT_READY = "is not at ready state"
NO_REVISION = "has no revision"
"""Words of the model to a caller that named a revision: an active one is always there."""


@dataclass(frozen=True)
class Answer:
    """One event of a stream, read, and as the message that a KServe client may see."""

    event: Progress | Part | Clip
    message: Any


class Upstream:
    """A connection to the Triton server at `address` (host and gRPC port)."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._channel = grpc.aio.insecure_channel(
            address,
            options=[
                ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
                ("grpc.enable_http_proxy", 0),
                ("grpc.initial_reconnect_backoff_ms", 200),
                ("grpc.max_reconnect_backoff_ms", 2000),
            ],
        )
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._ending: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Close the connection; streams on it are cancelled."""
        await self._channel.close()

    async def stream(self, request: Any, idle_timeout_s: float) -> AsyncGenerator[Answer, None]:
        """The events of one clip, the clip last; leaving early cancels it in Triton.

        Args:
            request: a ModelInferRequest.
            idle_timeout_s: how long Triton may be silent before it counts as dead.

        Raises:
            Refusal: the model's own sentence, or UNAVAILABLE if the server does not do its work.
        """
        call = self._stub.ModelStreamInfer(iter([request]))
        parts: list[Part] = []
        is_over = False
        try:
            while (response := await self._next(call, idle_timeout_s)) is not grpc.aio.EOF:
                try:
                    answer = _read(response, parts)
                except Refusal:
                    is_over = True
                    await self._read_to_the_end(call, idle_timeout_s)
                    raise
                if answer is None:
                    continue
                if isinstance(answer.event, Part):
                    parts.append(answer.event)
                if isinstance(answer.event, Clip):
                    is_over = True
                    await self._read_to_the_end(call, idle_timeout_s)
                yield answer
                if isinstance(answer.event, Clip):
                    return
        finally:
            if not is_over:
                call.cancel()
        raise _unavailable("the stream ended without a clip")

    async def check_text_to_video(self, timeout_s: float) -> None:
        """Ask `text_to_video` something that it refuses at once.

        Raises:
            Refusal: UNAVAILABLE; the process behind the model does not answer.
        """
        try:
            async with asyncio.timeout(timeout_s):
                async for _ in self.stream(build_request({"prompt": PROBE_PROMPT}), timeout_s):
                    return
        except TimeoutError:
            raise _unavailable(f"{MODEL} did not answer its probe in {timeout_s:g} s") from None
        except Refusal as refusal:
            if refusal.status != "INVALID_ARGUMENT":
                raise

    async def check_prompt_encoder(self, timeout_s: float) -> None:
        """Encode zeros once, with the text encoder and the base's policy.

        Raises:
            Refusal: UNAVAILABLE; prompts cannot be encoded.
        """
        async with _as_refusal():
            metadata = await self._stub.ModelMetadata(
                service_pb2.ModelMetadataRequest(name=TEXT_ENCODER), timeout=timeout_s
            )
            shapes = [tensor.shape for tensor in metadata.inputs if tensor.name == "input_ids"]
            zeros = np.zeros((1, max(1, *shapes[0]) if shapes else 1), np.int64)
            request = prompt_request(BASE_POLICY, VERSION, zeros, np.ones_like(zeros))
            await self._stub.ModelInfer(request, timeout=timeout_s)

    async def metadata(self, timeout_s: float) -> Any:
        """The ModelMetadataResponse of `text_to_video`; raises Refusal (UNAVAILABLE)."""
        async with _as_refusal():
            return await self._stub.ModelMetadata(
                service_pb2.ModelMetadataRequest(name=MODEL), timeout=timeout_s
            )

    async def _next(self, call: Any, idle_timeout_s: float) -> Any:
        async with _as_refusal():
            try:
                async with asyncio.timeout(idle_timeout_s):
                    return await call.read()
            except TimeoutError:
                raise _unavailable(f"no event within {idle_timeout_s:g} s") from None

    async def _read_to_the_end(self, call: Any, idle_timeout_s: float) -> None:
        """Lets a stream that has given its last answer end by itself, though its caller may leave.

        Cancelled then, it stays in Triton for good, and its model can never be unloaded.
        """

        async def read() -> None:
            try:
                while await self._next(call, idle_timeout_s) is not grpc.aio.EOF:
                    pass
            except Refusal:
                call.cancel()

        reading = asyncio.create_task(read())
        self._ending.add(reading)  # or nothing would hold it once the caller has left
        reading.add_done_callback(self._ending.discard)
        await asyncio.shield(reading)


def _read(response: Any, parts: Sequence[Part]) -> Answer | None:
    if response.error_message:
        raise _refused(response.error_message)
    try:
        event = read_response(response.infer_response, parts)
    except ServerError as error:
        LOGGER.error("an answer of Triton cannot be read: %s", error)
        raise _unavailable("an answer of another version") from None
    return None if event is None else Answer(event, _forwarded(response.infer_response))


def _forwarded(response: Any) -> Any:
    """Only the outputs that the contract names; no parameters, no id."""
    message = service_pb2.ModelInferResponse(model_name=MODEL, model_version="1")
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        if output.name in OUTPUTS:
            message.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
            message.raw_output_contents.append(raw)
    return message


def _refused(text: str) -> Refusal:
    """The sentence of `text_to_video`, which is meant for callers; anything else is not."""
    match = ERROR_TEXT.fullmatch(text)
    if match is None and is_going(text):
        return _going(text)
    if match is None:
        LOGGER.error("Triton refused a request in its own words: %s", text)
        return _unavailable("an error of Triton's own")
    status: Status = match[1]  # type: ignore[assignment]
    is_callers = status == "INVALID_ARGUMENT" or NO_REVISION in match[2]
    reason: Reason = "request" if is_callers else "model"
    if status == "NOT_FOUND":  # the model's sentence lists every policy there is
        return Refusal(status, reason, "the model server has no such policy or revision")
    retry_after_s = BUSY_RETRY_S if status == "UNAVAILABLE" else None
    return Refusal(status, reason, match[2], retry_after_s=retry_after_s)


@asynccontextmanager
async def _as_refusal() -> AsyncIterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        if is_going(error.details() or ""):
            raise _going(error.details() or "") from None
        LOGGER.error("Triton ended a call: %s: %s", error.code().name, error.details())
        raise _unavailable(error.code().name) from None


def is_going(text: str) -> bool:
    """Whether these words of Triton's say that it, or the model, takes no requests for a while."""
    return STOPPING.search(text) is not None or NOT_READY in text


def _going(text: str) -> Refusal:
    LOGGER.warning("Triton takes no request: %s", text)
    return Refusal(
        "UNAVAILABLE",
        "model_server",
        "the model server takes no requests at the moment; try again later",
        retry_after_s=BUSY_RETRY_S,
    )


def _unavailable(why: str) -> Refusal:
    LOGGER.error("the model server cannot be used: %s", why)
    return Refusal(
        "UNAVAILABLE",
        "model_server",
        "the model server does not answer as it should; try again later",
        retry_after_s=BUSY_RETRY_S,
    )
