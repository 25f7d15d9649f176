"""The messages of the `text_to_video` model: requests to write, responses to read.

Pure functions between Python values and KServe v2 protobufs; no connection is known here, so that
clients and stand-ins for servers can share them.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from tritonclient.grpc import service_pb2

from unsee.core.errors import InputError, ServerError
from unsee.media.clip import Clip, Frames, Progress

if TYPE_CHECKING:
    from unsee.core.record import GenerationRecord

MODEL = "text_to_video"
CHANNELS = 3


def _bytes(value: str) -> bytes:
    data = value.encode("utf-8")
    return struct.pack("<I", len(data)) + data


_ENCODERS: Mapping[str, Callable[[Any], bytes]] = {
    "BYTES": _bytes,
    "INT64": struct.Struct("<q").pack,
    "INT32": struct.Struct("<i").pack,
    "FP32": struct.Struct("<f").pack,
}

_DECODERS: Mapping[str, Callable[[bytes], Any]] = {
    "BYTES": lambda raw: _first_string(raw),
    "INT64": lambda raw: struct.unpack("<q", raw)[0],
    "INT32": lambda raw: struct.unpack("<i", raw)[0],
    "FP32": lambda raw: struct.unpack("<f", raw)[0],
}

INPUTS = {
    "prompt": "BYTES",
    "negative_prompt": "BYTES",
    "policy": "BYTES",
    "revision": "INT64",
    "seed": "INT64",
    "num_inference_steps": "INT32",
    "guidance_scale": "FP32",
    "num_frames": "INT32",
    "height": "INT32",
    "width": "INT32",
    "scheduler": "BYTES",
    "acceleration": "BYTES",
}
"""Every input of the model, each of shape [1], with its Triton datatype."""


def build_request(values: Mapping[str, Any]) -> Any:
    """A ModelInferRequest that holds those of `values` that are not None.

    Raises:
        InputError: a value does not fit its datatype.
    """
    request = service_pb2.ModelInferRequest(model_name=MODEL)
    for name, value in values.items():
        if value is not None:
            request.inputs.add(name=name, datatype=INPUTS[name], shape=[1])
            request.raw_input_contents.append(_encode(name, value))
    return request


def read_request(request: Any) -> dict[str, Any]:
    """What `build_request` wrote, without what was None."""
    pairs = zip(request.inputs, request.raw_input_contents, strict=True)
    return {tensor.name: _DECODERS[tensor.datatype](raw) for tensor, raw in pairs}


def build_response(event: Mapping[str, Any], frames: Frames | None = None) -> Any:
    """A ModelInferResponse of `event`, and of `frames` if it is the last."""
    response = service_pb2.ModelInferResponse(model_name=MODEL)
    response.outputs.add(name="event", datatype="BYTES", shape=[1])
    response.raw_output_contents.append(_bytes(json.dumps(event)))
    if frames is not None:
        response.outputs.add(name="frames", datatype="UINT8", shape=frames.shape)
        response.raw_output_contents.append(frames.tobytes())
    return response


def frames_size(values: Mapping[str, Any]) -> int | None:
    """Bytes of the clip that `values` ask for; None if they leave its size to the server."""
    num_bytes = CHANNELS
    for name in ("num_frames", "height", "width"):
        side = values.get(name)
        if not isinstance(side, int):
            return None
        num_bytes *= side
    return num_bytes


def place_frames(request: Any, region: str, num_bytes: int) -> None:
    """Asks for the frames in a registered shared memory region instead of in the answer."""
    request.outputs.add(name="event")
    frames = request.outputs.add(name="frames")
    frames.parameters["shared_memory_region"].string_param = region
    frames.parameters["shared_memory_byte_size"].int64_param = num_bytes


def read_response(response: Any, placed: Any = None) -> Progress | Clip | None:
    """What a ModelInferResponse says; None when it carries no event (the stream's empty end).

    Args:
        placed: the buffer that holds the frames if the request placed them (see `place_frames`).

    Raises:
        ServerError: the response is not one of this model's.
    """
    outputs = dict(zip((o.name for o in response.outputs), response.outputs, strict=True))
    if "event" not in outputs:
        return None
    raw = dict(zip(outputs, response.raw_output_contents, strict=False))
    try:
        event = json.loads(_first_string(raw["event"]))
        if event["type"] == "progress":
            return Progress(int(event["step"]), int(event["num_inference_steps"]))
        shape = [int(n) for n in outputs["frames"].shape]
        pixels = raw["frames"] if placed is None else placed
        frames = np.frombuffer(pixels, np.uint8, math.prod(shape)).reshape(shape)
        return Clip(frames, _read_record(event["record"]))
    except (KeyError, TypeError, ValueError, struct.error, InputError) as error:
        raise ServerError(
            f"the answer is not what the model {MODEL} of this version would send ({error}); "
            "check that client and server have the same version"
        ) from error


def _read_record(content: Any) -> GenerationRecord:
    from pydantic import ValidationError  # this and YAML are dear: not before they are needed

    from unsee.core.record import GenerationRecord

    try:
        return GenerationRecord.model_validate(content)
    except ValidationError as error:
        from unsee.core.policy import describe

        raise ServerError(f"the server sent an incomplete record: {describe(error)}") from error


def _encode(name: str, value: Any) -> bytes:
    try:
        return _ENCODERS[INPUTS[name]](value)
    except (struct.error, AttributeError, OverflowError, UnicodeEncodeError) as error:
        raise InputError(f"{name} must be a {INPUTS[name]} value, got {value!r}") from error


def _first_string(raw: bytes) -> str:
    (length,) = struct.unpack_from("<I", raw)
    return raw[4 : 4 + length].decode("utf-8")
