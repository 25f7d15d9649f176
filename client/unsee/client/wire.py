"""The messages of the `text_to_video` model: requests to write, responses to read.

Pure functions between Python values and KServe v2 protobufs; no connection is known here, so that
a synchronous and an asynchronous client can share them.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from pydantic import ValidationError
from tritonclient.grpc import service_pb2

from unsee.client.clip import Clip, GenerationRecord, Progress
from unsee.client.errors import InputError, ServerError
from unsee.client.policy import describe

MODEL = "text_to_video"


def _bytes(value: str) -> bytes:
    data = value.encode("utf-8")
    return struct.pack("<I", len(data)) + data


_ENCODERS: Mapping[str, Callable[[Any], bytes]] = {
    "BYTES": _bytes,
    "INT64": struct.Struct("<q").pack,
    "INT32": struct.Struct("<i").pack,
    "FP32": struct.Struct("<f").pack,
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


def read_response(response: Any) -> Progress | Clip | None:
    """What a ModelInferResponse says; None when it carries no event (the stream's empty end).

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
        frames = np.frombuffer(raw["frames"], dtype=np.uint8).reshape(shape)
        return Clip(frames, GenerationRecord.model_validate(event["record"]))
    except ValidationError as error:
        raise ServerError(f"the server sent an incomplete record: {describe(error)}") from error
    except (KeyError, TypeError, ValueError, struct.error, InputError) as error:
        raise ServerError(
            f"the answer is not what the model {MODEL} of this version would send ({error}); "
            "check that client and server have the same version"
        ) from error


def _encode(name: str, value: Any) -> bytes:
    try:
        return _ENCODERS[INPUTS[name]](value)
    except (struct.error, AttributeError, OverflowError, UnicodeEncodeError) as error:
        raise InputError(f"{name} must be a {INPUTS[name]} value, got {value!r}") from error


def _first_string(raw: bytes) -> str:
    (length,) = struct.unpack_from("<I", raw)
    return raw[4 : 4 + length].decode("utf-8")
