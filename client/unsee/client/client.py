"""A client of the `text_to_video` model: streams progress and the clip over gRPC.

Knows no command line and no files. It speaks to one model only; the repository API is for whoever
runs the server.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from unsee.client.channel import connect
from unsee.client.clip import Clip, Progress
from unsee.client.errors import (
    Cancelled,
    DeadlineExceeded,
    RequestRejected,
    ServerError,
    ServerUnreachable,
)
from unsee.client.wire import build_request, read_response

DEFAULT_URL = "127.0.0.1:8001"
MAX_MESSAGE_BYTES = 256 * 1024 * 1024
ERROR_TEXT = re.compile(rf"({'|'.join(code.name for code in grpc.StatusCode)}): (.+)", re.DOTALL)
"""An error inside a stream, as `text_to_video` words it: the status and a sentence."""
GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
"""How a health check ends when nobody answers."""


class Client:
    """A connection to one server; usable from several threads and as a context manager.

    Args:
        url: host and gRPC port, without a scheme.
        timeout_s: how long one clip may take in all, unless a call says otherwise.
        connect_timeout_s: how long reaching the server may take.
        token: what a gateway knows the caller by; None: the environment's UNSEE_TOKEN, if set.
        tls: encrypts the connection; also switched on by a `ca_certificate` and by UNSEE_TLS=1.
        ca_certificate: PEM file of who signed the server's certificate. None: the environment's
            UNSEE_CA_CERTIFICATE, if set, else gRPC's own roots.
        client_certificate, client_key: PEM files that a gateway knows the caller by; they go
            together, and with TLS.

    Raises:
        InputError: a file cannot be read, the options contradict each other, or the token would
            travel over the network unencrypted.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout_s: float = 600.0,
        connect_timeout_s: float = 5.0,
        token: str | None = None,
        tls: bool = False,
        ca_certificate: Path | str | None = None,
        client_certificate: Path | str | None = None,
        client_key: Path | str | None = None,
    ) -> None:
        self.url = url
        self.timeout_s = timeout_s
        self.connect_timeout_s = connect_timeout_s
        self._channel, self._metadata = connect(
            url,
            [
                ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ],
            token=token,
            tls=tls,
            ca_certificate=ca_certificate,
            client_certificate=client_certificate,
            client_key=client_key,
        )
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def stream(
        self,
        prompt: str,
        *,
        policy: str | None = None,
        revision: int | None = None,
        seed: int | None = None,
        negative_prompt: str | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        scheduler: str | None = None,
        acceleration: str | None = None,
        timeout_s: float | None = None,
    ) -> Generator[Progress | Clip, None, None]:
        """Yields a `Progress` per evaluation of the video model and last the `Clip`.

        What is None is the server's choice, and the clip's record says what it chose. Closing the
        generator cancels the request on the server.

        Raises:
            InputError: a value does not fit its type.
            ServerUnreachable, RequestRejected, DeadlineExceeded, Cancelled: see `errors`.
        """
        request = build_request(
            {
                "prompt": prompt,
                "policy": policy,
                "revision": revision,
                "seed": seed,
                "negative_prompt": negative_prompt,
                "num_inference_steps": num_inference_steps,
                "guidance_scale": guidance_scale,
                "num_frames": num_frames,
                "height": height,
                "width": width,
                "scheduler": scheduler,
                "acceleration": acceleration,
            }
        )
        return self._events(request, self.timeout_s if timeout_s is None else timeout_s)

    def generate(
        self,
        prompt: str,
        *,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        **options: Any,
    ) -> Clip:
        """The clip of `stream(prompt, **options)`; `on_progress` sees each step."""
        for event in self.stream(prompt, **options):
            if isinstance(event, Clip):
                return event
            on_progress(event)
        raise ServerError(f"the server at {self.url} ended the stream without a clip")

    def close(self) -> None:
        """Closes the connection and cancels what is still in flight on it."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _events(self, request: Any, timeout_s: float) -> Generator[Progress | Clip, None, None]:
        deadline = time.monotonic() + timeout_s
        self._connect(min(self.connect_timeout_s, timeout_s))
        call = self._stub.ModelStreamInfer(
            iter([request]),
            timeout=max(0.0, deadline - time.monotonic()),
            metadata=self._metadata,
        )
        try:
            for answer in call:
                if answer.error_message:
                    _read_to_the_end(call)
                    raise _rejected(answer.error_message)
                event = read_response(answer.infer_response)
                if isinstance(event, Clip):
                    _read_to_the_end(call)
                if event is not None:
                    yield event
                if isinstance(event, Clip):
                    return
        except grpc.RpcError as error:
            raise self._translated(error, timeout_s) from error
        finally:
            call.cancel()
        raise ServerError(f"the server at {self.url} ended the stream without a clip")

    def _connect(self, timeout_s: float) -> None:
        """A refusal comes back at once and silence after `timeout_s`, unlike in a long request."""
        try:
            self._stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            if error.code() in GONE:
                raise ServerUnreachable(
                    f"no server answers at {self.url}; "
                    "start one with: unsee serve, or give the address of a running one"
                ) from error

    def _translated(self, error: grpc.RpcError, timeout_s: float) -> ServerError:
        status, details = error.code(), error.details() or "no reason given"
        if status is grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(
                f"no clip from {self.url} within {timeout_s:g} s; "
                "allow more time, or ask for fewer steps or frames"
            )
        if status is grpc.StatusCode.CANCELLED:
            return Cancelled(f"the request to {self.url} was cancelled before it finished")
        if status is grpc.StatusCode.UNAVAILABLE and not self._still_there():
            return ServerUnreachable(
                f"the server at {self.url} stopped answering before the clip was finished"
            )
        return RequestRejected(details, str(status.name))

    def _still_there(self) -> bool:
        """Tells a busy server's UNAVAILABLE from a server that is gone."""
        try:
            self._connect(self.connect_timeout_s)
        except ServerUnreachable:
            return False
        return True


def _rejected(text: str) -> RequestRejected:
    """Triton's own refusals carry no status; those of `text_to_video` do."""
    match = ERROR_TEXT.fullmatch(text)
    return RequestRejected(match[2], match[1]) if match else RequestRejected(text, "UNKNOWN")


def _read_to_the_end(call: Any) -> None:
    """Lets a stream that has given its last answer end by itself.

    Cancelled then, it stays in Triton for good, and its model can never be unloaded.
    """
    try:
        for _ in call:
            pass
    except grpc.RpcError:
        return
