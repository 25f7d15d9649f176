"""`text_to_video`: the Triton model that clients call, a decoupled Python (BLS) model.

It turns Triton's objects into plain arrays and back, streams a progress event after each step and
then the frames, at once or in parts, and sees to it that every stream ends with one clean sentence
or one clip. What a request does is in the package beside it. Triton's stub puts this folder on
`sys.path`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils

from text_to_video.acceleration import PACES, accelerated
from text_to_video.admission import Admission
from text_to_video.base import check_graphs, read_base
from text_to_video.generation import Plan, generate
from text_to_video.layout import (
    BASE_FILE,
    EXPORT_FILE,
    PROMPT_ENCODER,
    SAMPLERS_FILE,
    TOKENIZER_FILE,
    VAE_DECODER,
    VAE_DECODER_NEXT,
    VIDEO_DENOISER,
    assets_dir,
    version_dir,
)
from text_to_video.policies import PolicyPointer, Revision
from text_to_video.refusal import Refusal
from text_to_video.request import parse_request
from text_to_video.request_schema import INPUTS, GenerationRequest
from text_to_video.sampler import SamplerTables
from text_to_video.tokens import PromptTokenizer, Tokens

LOGGER = logging.getLogger("unsee.text_to_video")
MAX_RUNNING, MAX_WAITING = 16, 64
TRITON_CODES = {"INVALID_ARGUMENT": "INVALID_ARG"}

Array = npt.NDArray[Any]


class TritonPythonModel:
    """The service: reads `assets/` beside the version folder and the repository's policies.json."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the assets; raises TritonModelException naming the one that does not fit."""
        model_dir = Path(args["model_repository"])
        repository_dir = model_dir.parent
        assets = assets_dir(repository_dir)
        parameters = json.loads(args["model_config"]).get("parameters", {})
        try:
            self._base = read_base(assets / BASE_FILE)
            check_graphs(self._base, lambda model: version_dir(repository_dir, model) / EXPORT_FILE)
            self._tokenizer = PromptTokenizer(assets / TOKENIZER_FILE, self._base)
            self._tables = SamplerTables(assets / SAMPLERS_FILE)
        except Exception as error:
            LOGGER.exception("text_to_video cannot read its assets")
            message = f"text_to_video cannot read its assets: {error}"
            raise pb_utils.TritonModelException(message) from None
        self._policies = PolicyPointer(repository_dir)
        self._admission = Admission(
            _parameter(parameters, "max_running_requests", MAX_RUNNING),
            _parameter(parameters, "max_waiting_requests", MAX_WAITING),
        )
        self._graphs = TritonGraphs()
        self._courier = ThreadPoolExecutor(1, "progress")

    async def execute(self, requests: Sequence[Any]) -> None:
        """Answer each request through its own stream."""
        await asyncio.gather(*(self._answer(request) for request in requests))

    async def _answer(self, request: Any) -> None:
        stream = Stream(request.get_response_sender(), self._courier)
        try:
            parsed = self._parsed(request)  # what is wrong is refused without waiting
            async with self._admission.place(stream.check_cancelled):
                await self._make(self._plan(parsed), stream)
        except Refusal as refusal:
            if refusal.__cause__ is not None:
                LOGGER.error("a request was refused: %s", refusal, exc_info=refusal.__cause__)
            stream.refuse(refusal)
        except Exception:
            LOGGER.exception("a request failed")
            stream.refuse(Refusal("INTERNAL", "the server failed; its log says why"))

    async def _make(self, plan: Plan, stream: Stream) -> None:
        """Make the clip and send it: whole with its record, or in parts and then the record."""
        request, steps = plan.request, plan.table.num_evaluations

        def after_step(step: int) -> None:
            stream.send({"type": "progress", "step": step, "num_inference_steps": steps})

        def after_part(first_frame: int, frames: Array) -> None:
            if not request.stream_frames:
                stream.check_cancelled()
                return
            event = {"type": "part", "first_frame": first_frame, "num_frames": request.num_frames}
            stream.send(event | {"fps": self._base.defaults.fps}, frames)

        frames, record = await generate(plan, self._graphs, self._base, after_step, after_part)
        sent = request.stream_frames
        stream.finish({"type": "result", "record": record}, None if sent else frames)

    def _parsed(self, request: Any) -> GenerationRequest:
        tensors: dict[str, Array] = {}
        for name in INPUTS:
            tensor = pb_utils.get_input_tensor_by_name(request, name)
            if tensor is not None:
                tensors[name] = tensor.as_numpy()
        return parse_request(tensors, self._base)

    def _plan(self, parsed: GenerationRequest) -> Plan:
        revision = self._policies.resolve(parsed.policy, parsed.revision)
        table = self._tables.table(parsed.scheduler, parsed.num_inference_steps)
        tokens = self._tokenizer.encode(
            negative_prompt=parsed.negative_prompt, prompt=parsed.prompt
        )
        return Plan(parsed, revision, tokens, accelerated(table, PACES[parsed.acceleration]))


class Stream:
    """One client's stream of responses; it ends exactly once.

    Sending waits until Triton has taken the response, so `courier` sends all but the last while the
    next step or part is computed.
    """

    def __init__(self, sender: Any, courier: ThreadPoolExecutor) -> None:
        self._sender = sender
        self._courier = courier
        self._underway: Future[None] | None = None

    def check_cancelled(self) -> None:
        """Raises Refusal (CANCELLED) when the client has cancelled or gone."""
        if self._sender.is_cancelled():
            raise Refusal("CANCELLED", "the client cancelled the request")

    def send(self, event: dict[str, Any], frames: Array | None = None) -> None:
        """Send one of many: the event, and frames UINT8 [F, H, W, 3]; raises Refusal if the client
        has left.
        """
        self.check_cancelled()
        self._arrived()
        self._underway = self._courier.submit(self._sender.send, _response(event, frames))

    def finish(self, event: dict[str, Any], frames: Array | None) -> None:
        """Send the last response: the event, and frames UINT8 [F, H, W, 3] if none were sent.

        Raises what sending the response before it raised: a clip that lacks a part has no record.
        """
        self._arrived()
        self._end(_response(event, frames))

    def refuse(self, refusal: Refusal) -> None:
        """End the stream with an error whose text begins with the refusal's status.

        As text, because Triton may crash when a stream is to end with a gRPC status.
        """
        text = f"{refusal.status}: {refusal}"
        code = getattr(pb_utils.TritonError, TRITON_CODES.get(refusal.status, refusal.status))
        error = pb_utils.TritonError(text, code)
        self._end(pb_utils.InferenceResponse(error=error))

    def _arrived(self) -> None:
        """Wait for the response that is being sent; raises what sending it raised."""
        underway, self._underway = self._underway, None
        if underway is not None:
            underway.result()

    def _end(self, response: Any) -> None:
        try:
            self._arrived()
        except Exception:
            LOGGER.exception("a stream's progress cannot be sent")
        final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        try:
            self._sender.send(response, flags=final)
        except Exception:
            LOGGER.exception("the last response of a stream cannot be sent")
            self._sender.send(flags=final)


class TritonGraphs:
    """Models of the same server, called through BLS (see `Graphs`)."""

    async def prompt_encoder(self, revision: Revision, tokens: Tokens) -> Array:
        """INT64 [B, L] -> FP32 [B, L, D], by the policy's revision."""
        what = f"the policy {revision.policy}, revision {revision.number},"
        rows = (len(tokens.input_ids), 1)
        inputs = {
            "input_ids": tokens.input_ids,
            "attention_mask": tokens.attention_mask,
            "policy": np.full(rows, revision.policy.encode(), np.object_),
            "revision": np.full(rows, revision.number, np.int64),
        }
        (hidden,) = await _call(PROMPT_ENCODER, inputs, ("prompt_embeds",), what)
        _check_shape(hidden, (*tokens.input_ids.shape, *hidden.shape[2:]), what)
        return hidden

    async def video_denoiser(self, sample: Array, timestep: Array, hidden: Array) -> Array:
        """FP32 [B, C, F, h, w], [B], [B, L, D] -> FP32 [B, C, F, h, w]."""
        inputs = {
            "sample": sample,
            "timestep": timestep[:, None],  # the configuration reshapes [1] to a scalar per row
            "encoder_hidden_states": hidden,
        }
        what = "the video denoiser"
        (noise_pred,) = await _call(VIDEO_DENOISER, inputs, ("noise_pred",), what)
        _check_shape(noise_pred, sample.shape, what)
        return noise_pred

    async def vae_decoder(self, latents: Array) -> Array:
        """FP32 [1, C, F, h, w] -> UINT8 [1, F, H, W, 3]."""
        (frames,) = await _call(VAE_DECODER, {"latents": latents}, ("frames",), "the VAE decoder")
        _check_shape(frames, (1, latents.shape[2], *frames.shape[2:4], 3), "the VAE decoder")
        return frames

    async def vae_decoder_step(self, latents: Array, cache: Array | None) -> tuple[Array, Array]:
        """FP32 [1, C, 1, h, w], FP32 [1, K, h, w] -> UINT8 [1, F, H, W, 3], FP32 [1, K, h, w]."""
        model, inputs = VAE_DECODER, {"latents": latents}
        if cache is not None:
            model, inputs = VAE_DECODER_NEXT, inputs | {"cache": cache}
        outputs = ("frames", "next_cache")
        frames, next_cache = await _call(model, inputs, outputs, "the VAE decoder")
        return frames, next_cache


async def _call(
    model_name: str, inputs: dict[str, Array], outputs: Sequence[str], what: str
) -> list[Array]:
    """One BLS call; raises Refusal (UNAVAILABLE) naming `what`, with Triton's message as cause."""
    request = pb_utils.InferenceRequest(
        model_name=model_name,
        requested_output_names=list(outputs),
        inputs=[pb_utils.Tensor(name, array) for name, array in inputs.items()],
        preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU),
    )
    response = await request.async_exec()
    if response.has_error():
        cause = RuntimeError(f"{model_name}: {response.error().message()}")
        raise Refusal("UNAVAILABLE", f"{what} cannot be used at the moment") from cause
    return [
        # the originals lie in memory that Triton takes back with the response
        pb_utils.get_output_tensor_by_name(response, name).as_numpy().copy()
        for name in outputs
    ]


def _check_shape(array: Array, shape: tuple[int, ...], what: str) -> None:
    if array.shape != shape:
        cause = RuntimeError(f"{what} gave {array.shape}, not {shape}")
        raise Refusal("INTERNAL", f"{what} gave an answer of the wrong shape") from cause


def _response(event: dict[str, Any], frames: Array | None) -> Any:
    data = json.dumps(event, ensure_ascii=False, allow_nan=False).encode("utf-8")
    tensors = [pb_utils.Tensor("event", np.array([data], dtype=np.object_))]
    if frames is not None:
        tensors.append(pb_utils.Tensor("frames", frames))
    return pb_utils.InferenceResponse(tensors)


def _parameter(parameters: dict[str, Any], name: str, default: int) -> int:
    return int(parameters.get(name, {}).get("string_value", default))
