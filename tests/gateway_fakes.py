"""A Triton that only pretends, and gateways before it, for tests of every front.

`FakeTriton` speaks KServe v2 in this process and records what reached it; a test hands it the
coroutine that answers a stream. `Served` runs one gateway in an event loop of its own thread, so
that tests use the ordinary synchronous clients.
"""

import asyncio
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc
from wire_fakes import RECORD, decoded, error, event, progress

from unsee.gateway.callers.credentials import token_sha256
from unsee.gateway.callers.settings import Settings
from unsee.gateway.observe.tracing import NoTracer
from unsee.gateway.server import running

TOKENS = {name: f"unsee_{name:-<43}" for name in ("studio", "kids", "admin")}
PATIENCE_S = 20.0

FRAMES = np.arange(2 * 16 * 16 * 3, dtype=np.uint8).reshape(2, 16, 16, 3)


def result(inputs: dict[str, Any], **record: Any) -> Any:
    made = RECORD | {"policy": inputs.get("policy", "base"), "prompt": inputs["prompt"]} | record
    return event({"type": "result", "record": made}, FRAMES)


async def good_answer(inputs: dict[str, Any], context: Any) -> None:
    for step in (1, 2, 3):
        await context.write(progress(step))
    await context.write(result(inputs))


async def stuck(inputs: dict[str, Any], context: Any) -> None:
    await context.write(progress(1))
    await asyncio.Event().wait()


async def failing(inputs: dict[str, Any], context: Any) -> None:
    await context.write(progress(1))
    await context.write(error("INTERNAL: the server failed; its log says why"))


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers like Triton; `streams` holds what each request brought."""

    def __init__(self) -> None:
        self.answer: Callable[[dict[str, Any], Any], Any] = good_answer
        self.streams: list[Any] = []
        self.metadata: list[dict[str, str]] = []
        self.calls: list[str] = []
        self.cancelled = threading.Event()
        self.prompt_encoder_alive = True
        self.text_to_video_alive = True

    async def ModelStreamInfer(self, requests: Any, context: Any) -> None:
        async for request in requests:
            inputs = decoded(request)
            if inputs["prompt"] == "" and len(inputs) == 1:
                await self._probed(context)
                return
            self.streams.append(request)
            self.metadata.append(dict(context.invocation_metadata()))
            try:
                await self.answer(inputs, context)
            except asyncio.CancelledError:
                self.cancelled.set()
                raise

    async def _probed(self, context: Any) -> None:
        if self.text_to_video_alive:
            await context.write(error("INVALID_ARGUMENT: prompt is empty"))
        else:
            await context.write(error("Stub process 'text_to_video_0_0' is not healthy."))

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        response = service_pb2.ModelMetadataResponse(name=request.name, versions=["1"])
        if request.name == "text_encoder":
            response.inputs.add(name="input_ids", datatype="INT64", shape=[-1, 48])
        return response

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        self.calls.append(f"ModelInfer {request.model_name}")
        inputs = dict(
            zip((i.name for i in request.inputs), request.raw_input_contents, strict=True)
        )
        assert inputs == {
            "input_ids": bytes(48 * 8),
            "attention_mask": 48 * struct.pack("<q", 1),
            "policy": struct.pack("<I", 4) + b"base",
            "revision": struct.pack("<q", 1),
        }
        if not self.prompt_encoder_alive:
            await context.abort(grpc.StatusCode.INTERNAL, "Stub process is not healthy: /srv/x")
        return service_pb2.ModelInferResponse(model_name=request.model_name)


class Served:
    """A fake Triton and a gateway before it, in an event loop of their own."""

    def __init__(self, **settings: Any) -> None:
        self.triton = FakeTriton()
        self._loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.thread.start()
        self.run(self._start(settings))

    async def _start(self, settings: dict[str, Any]) -> None:
        self._triton_server = grpc.aio.server()
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(
            self.triton, self._triton_server
        )
        port = self._triton_server.add_insecure_port("127.0.0.1:0")
        await self._triton_server.start()
        content = {"grpc": "127.0.0.1:0", "http": "127.0.0.1:0", "tenants": tenants()} | settings
        self.settings = Settings.model_validate({"triton": f"127.0.0.1:{port}"} | content)
        self._running = running(self.settings, NoTracer())
        self.gateway, self.addresses = await self._running.__aenter__()

    def run(self, work: Any, timeout_s: float = PATIENCE_S) -> Any:
        """The result of a coroutine in the gateway's event loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    def start(self, work: Any) -> Any:
        """A coroutine in the gateway's event loop, as a concurrent future."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def drain(self) -> None:
        self.run(self._running.__aexit__(None, None, None))

    def kill_triton(self) -> None:
        self.run(self._triton_server.stop(None))

    def stop(self) -> None:
        self.drain()
        self.kill_triton()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self.thread.join(PATIENCE_S)
        self._loop.close()


def tenants(**changes: dict[str, Any]) -> list[dict[str, Any]]:
    """Three callers: `kids` is bound to one policy, `studio` may choose, `admin` only looks."""
    entries = {
        "kids": {"policies": ["family"]},
        "studio": {
            "policies": ["base", "family", "studio-x"],
            "default_policy": "studio-x",
            "allow_base": True,
            "may_pin_revision": True,
            "max_concurrent": 4,
        },
        "admin": {"operator": True},
    }
    return [
        {"name": name, "token_sha256": token_sha256(TOKENS[name])} | entry | changes.get(name, {})
        for name, entry in entries.items()
    ]


def wait_until(condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)
