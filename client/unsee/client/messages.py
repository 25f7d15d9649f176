"""The messages of the `text_to_video` model: requests to write, responses and errors to read.

Pure functions between Python values and KServe v2 protobufs, for clients, for the gateway and for
stand-ins of servers.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import ValidationError
from tritonclient.grpc import service_pb2

from unsee.core.errors import InputError, RequestRejected, ServerError
from unsee.core.record import GenerationRecord
from unsee.core.request_schema import INPUTS, WHOLE_NUMBERS
from unsee.core.validation import describe, shortened
from unsee.media.clip import Clip, Part, Progress
from unsee.media.frames import Frames

MODEL = "text_to_video"
TAKES_BYTES = "max-receive-bytes"
"""The metadata in which a caller says how large a message it takes; plain gRPC takes 4 MiB."""
STATUS_AND_SENTENCE = re.compile(
    r"(CANCELLED|UNKNOWN|INVALID_ARGUMENT|DEADLINE_EXCEEDED|NOT_FOUND|ALREADY_EXISTS"
    r"|PERMISSION_DENIED|UNAUTHENTICATED|RESOURCE_EXHAUSTED|FAILED_PRECONDITION|ABORTED"
    r"|OUT_OF_RANGE|UNIMPLEMENTED|INTERNAL|UNAVAILABLE|DATA_LOSS): (.+)",
    re.DOTALL,
)
"""An error inside a stream, as `text_to_video` words it."""
STOPPING = re.compile(
    r"has no available versions|not at ready state|server is stopping"
    r"|stopped accepting new inference requests",
    re.IGNORECASE,
)
"""Triton's own words for a request that it does not begin, as it or its model is going away."""


def _bytes(value: str) -> bytes:
    data = value.encode("utf-8")
    return struct.pack("<I", len(data)) + data


def _bool(value: bool) -> bytes:
    if not isinstance(value, (bool, np.bool_)):  # anything would do for struct
        raise struct.error("neither True nor False")
    return struct.pack("<?", value)


def _first_string(raw: bytes) -> str:
    (length,) = struct.unpack_from("<I", raw)
    return raw[4 : 4 + length].decode("utf-8")


FORMATS = {"INT64": "<q", "INT32": "<i", "FP32": "<f", "BOOL": "<?"}
"""One value of each datatype but BYTES, in the words of `struct`."""
_ENCODERS: Mapping[str, Callable[[Any], bytes]] = {
    **{datatype: struct.Struct(form).pack for datatype, form in FORMATS.items()},
    "BYTES": _bytes,
    "BOOL": _bool,
}


def _decoded(datatype: str, raw: bytes) -> Any:
    return _first_string(raw) if datatype == "BYTES" else struct.unpack(FORMATS[datatype], raw)[0]


def build_request(values: Mapping[str, Any]) -> Any:
    """A ModelInferRequest that holds those of `values` that are not None.

    Raises:
        InputError: a value does not fit its datatype.
    """
    request = service_pb2.ModelInferRequest(model_name=MODEL)
    for name, value in values.items():
        if value is not None:
            request.inputs.add(name=name, datatype=INPUTS[name].datatype, shape=[1])
            request.raw_input_contents.append(_encode(name, value))
    return request


def read_request(request: Any) -> dict[str, Any]:
    """What `build_request` wrote, without what was None."""
    pairs = zip(request.inputs, request.raw_input_contents, strict=True)
    return {tensor.name: _decoded(tensor.datatype, raw) for tensor, raw in pairs}


def build_response(event: Mapping[str, Any], frames: Frames | None = None) -> Any:
    """A ModelInferResponse of `event`, and of `frames` if it brings any."""
    response = service_pb2.ModelInferResponse(model_name=MODEL)
    response.outputs.add(name="event", datatype="BYTES", shape=[1])
    response.raw_output_contents.append(_bytes(json.dumps(event)))
    if frames is not None:
        response.outputs.add(name="frames", datatype="UINT8", shape=frames.shape)
        response.raw_output_contents.append(frames.tobytes())
    return response


def read_response(response: Any, parts: Sequence[Part] = ()) -> Progress | Part | Clip | None:
    """What a ModelInferResponse says; None when it carries no event (the stream's empty end).

    Args:
        parts: those that came before it in its stream; a clip that brings no frames is made of
            them.

    Raises:
        ServerError: the response is not one of this model's, or does not follow `parts`.
    """
    outputs = dict(zip((o.name for o in response.outputs), response.outputs, strict=True))
    if "event" not in outputs:
        return None
    raw = dict(zip(outputs, response.raw_output_contents, strict=False))
    try:
        event = json.loads(_first_string(raw["event"]))
        if event["type"] == "progress":
            return Progress(int(event["step"]), int(event["num_inference_steps"]))
        if "frames" not in outputs:
            return _joined(parts, GenerationRecord.model_validate(event["record"]))
        shape = [int(n) for n in outputs["frames"].shape]
        frames = np.frombuffer(raw["frames"], np.uint8, math.prod(shape)).reshape(shape)
        if event["type"] == "part":
            first_frame, num_frames = int(event["first_frame"]), int(event["num_frames"])
            if first_frame != _num_frames(parts):
                raise ValueError(f"frame {first_frame} came after {_num_frames(parts)} frames")
            return Part(frames, first_frame, num_frames, float(event["fps"]))
        return Clip(frames, GenerationRecord.model_validate(event["record"]))
    except ValidationError as error:
        raise ServerError(f"the server sent an incomplete record: {describe(error)}") from error
    except (KeyError, TypeError, ValueError, struct.error, InputError) as error:
        raise ServerError(
            f"the answer is not what the model {MODEL} of this version would send ({error}); "
            "check that client and server have the same version"
        ) from error


def _joined(parts: Sequence[Part], record: GenerationRecord) -> Clip:
    """The clip whose frames came in parts; raises ValueError unless all of them came."""
    came = _num_frames(parts)
    if came != record.num_frames:
        raise ValueError(f"{came} of {record.num_frames} frames came")
    frames = np.concatenate([part.frames for part in parts])
    frames.flags.writeable = False
    return Clip(frames, record)


def _num_frames(parts: Sequence[Part]) -> int:
    return sum(len(part.frames) for part in parts)


def read_error(text: str) -> RequestRejected:
    """The error inside a stream. Those of `text_to_video` carry a status, Triton's own do not."""
    match = STATUS_AND_SENTENCE.fullmatch(text)
    if match is None and STOPPING.search(text):
        return draining()
    error = RequestRejected(match[2], match[1]) if match else RequestRejected(text, "UNKNOWN")
    error.retryable = error.status == "UNAVAILABLE"  # its queue is full, or no revision is active
    return error


def draining() -> RequestRejected:
    """The error for a Triton that is being stopped, or whose model is being replaced."""
    error = RequestRejected(
        "the server is stopping or changing its models and takes no request; ask again later",
        "UNAVAILABLE",
    )
    error.retryable = True
    return error


def _encode(name: str, value: Any) -> bytes:
    datatype = INPUTS[name].datatype
    try:
        return _ENCODERS[datatype](value)
    except (struct.error, AttributeError, OverflowError, UnicodeEncodeError) as error:
        raise InputError(f"{name} must be {_wanted(name)}, got {shortened(value)}") from error


def _wanted(name: str) -> str:
    """In words, what a value of the input `name` is."""
    known = INPUTS[name]
    if known.datatype not in WHOLE_NUMBERS:
        others = {"BYTES": "text", "FP32": "a number of at most 3.4e38", "BOOL": "True or False"}
        return others[known.datatype]
    lowest, highest = WHOLE_NUMBERS[known.datatype]
    lowest = lowest if known.minimum is None else int(known.minimum)
    return f"a whole number from {lowest} to {highest}"
