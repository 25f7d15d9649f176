"""What a caller asks for: read strictly from KServe's protobuf or from JSON, and nothing else.

Anything that is not an input of `text_to_video` is refused, not dropped: parameters (sequences,
priorities, timeouts, shared memory), tensors elsewhere than in the message, other models.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from google.protobuf.message import DecodeError
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    create_model,
)
from tritonclient.grpc import service_pb2

from unsee.client.messages import FORMATS, MODEL, build_request
from unsee.core.request_schema import INPUTS, WHOLE_NUMBERS
from unsee.core.validation import matching
from unsee.gateway.callers.refusal import Refusal, invalid, problems, quoted

OUTPUTS = ("event", "frames")
VERSIONS = ("", "1")
REQUEST_ID = re.compile(r"[\x20-\x7e]{0,128}")
ID_FORM = "the request id must be at most 128 printable ASCII characters"


def _encodable(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("this text is not valid Unicode") from None
    return text


Text = Annotated[str, StringConstraints(max_length=16384), AfterValidator(_encodable)]
Name = Annotated[str, StringConstraints(max_length=64), AfterValidator(_encodable)]
Int32 = Annotated[int, Field(ge=WHOLE_NUMBERS["INT32"][0], le=WHOLE_NUMBERS["INT32"][1])]
Int64 = Annotated[int, Field(ge=WHOLE_NUMBERS["INT64"][0], le=WHOLE_NUMBERS["INT64"][1])]
Float32 = Annotated[float, Field(ge=-3.4e38, le=3.4e38, allow_inf_nan=False)]
TYPES: Mapping[str, Any] = {
    "BYTES": Text,
    "INT64": Int64,
    "INT32": Int32,
    "FP32": Float32,
    "BOOL": bool,
}
"""What a value of each datatype may be, whatever the base's limits are."""


class KnownRequest(BaseModel):
    """The inputs of `text_to_video` that the gateway itself reads; None: the server chooses."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    prompt: Text
    policy: Name | None = None
    revision: Int64 | None = None
    stream_frames: bool | None = None


def _fields() -> dict[str, Any]:
    """Pydantic's definition of each input, by its name."""
    types = {
        name: Name if known.is_name else TYPES[known.datatype] for name, known in INPUTS.items()
    }
    return {
        name: types[name] if known.required else (types[name] | None, None)
        for name, known in INPUTS.items()
    }


if TYPE_CHECKING:
    ClipRequest = KnownRequest
else:
    ClipRequest = create_model(
        "ClipRequest",
        __base__=KnownRequest,
        __doc__="Every input of `text_to_video`. Values are checked for their type here, and for "
        "the base's limits by the model.",
        **_fields(),
    )


class HttpRequest(ClipRequest):
    """The JSON of a request over HTTP: the inputs, and what gRPC has elsewhere."""

    id: Annotated[str, matching(REQUEST_ID.pattern, ID_FORM)] = ""
    timeout_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @property
    def clip(self) -> ClipRequest:
        """The request without what belongs to the transport."""
        return ClipRequest.model_construct(
            **{name: getattr(self, name) for name in ClipRequest.model_fields}
        )


class StreamRequest(HttpRequest):
    """A request for one clip whose events are streamed.

    Args:
        files: files of the clip that the result brings beside its frames.
    """

    files: tuple[Literal["mp4"], ...] = ()


def read_json(body: bytes) -> StreamRequest:
    """The request in an HTTP body.

    Raises:
        Refusal: INVALID_ARGUMENT, naming the field.
    """
    try:
        return StreamRequest.model_validate_json(body)
    except ValidationError as error:
        raise invalid(first_problem(error)) from None


def read_protobuf(message: bytes) -> tuple[ClipRequest, str]:
    """The request in a ModelInferRequest, and the id that the caller gave it.

    Raises:
        Refusal: INVALID_ARGUMENT, or PERMISSION_DENIED for another model than `text_to_video`.
    """
    request = service_pb2.ModelInferRequest()
    try:
        request.ParseFromString(message)
    except DecodeError:
        raise invalid("the message is not a ModelInferRequest") from None
    check_model(request.model_name, request.model_version)
    if request.parameters:
        raise invalid(f"the parameter {quoted(min(request.parameters))} is not accepted here")
    if not REQUEST_ID.fullmatch(request.id):
        raise invalid(ID_FORM)
    _check_outputs(request.outputs)
    values = _tensors(request)
    try:
        return ClipRequest.model_validate(values), request.id
    except ValidationError as error:
        raise invalid(problems(error)[0]) from None


def check_model(name: str, version: str) -> None:
    """Raises Refusal (PERMISSION_DENIED) unless it is the one model that callers may use."""
    if name != MODEL or version not in VERSIONS:
        raise Refusal("PERMISSION_DENIED", "permission", f"only the model {MODEL} is served here")


def to_protobuf(request: ClipRequest, upstream_id: str) -> Any:
    """A fresh ModelInferRequest: only known inputs, and an id of the gateway's own."""
    message = build_request(request.model_dump())
    message.id = upstream_id
    return message


def _tensors(request: Any) -> dict[str, Any]:
    if len(request.inputs) != len(request.raw_input_contents):
        raise invalid("each input needs its value in raw_input_contents")
    values: dict[str, Any] = {}
    for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
        name = tensor.name
        if name not in INPUTS:
            raise invalid(f"there is no input {quoted(name)}; known are {', '.join(INPUTS)}")
        if name in values:
            raise invalid(f"the input {name} is given twice")
        if tensor.parameters:
            key = quoted(min(tensor.parameters))
            raise invalid(f"the parameter {key} of the input {name} is not accepted here")
        datatype = INPUTS[name].datatype
        if tensor.datatype != datatype or list(tensor.shape) != [1]:
            raise invalid(f"the input {name} must be {datatype} of shape [1]")
        values[name] = _scalar(name, raw)
    return values


def _scalar(name: str, raw: bytes) -> Any:
    datatype = INPUTS[name].datatype
    if datatype == "BYTES":
        if len(raw) < 4 or int.from_bytes(raw[:4], "little") != len(raw) - 4:
            raise invalid(f"the input {name} must hold one string with its length before it")
        try:
            return raw[4:].decode("utf-8")
        except UnicodeDecodeError:
            raise invalid(f"{name} is not text in UTF-8") from None
    if len(raw) != struct.calcsize(FORMATS[datatype]):
        raise invalid(f"the input {name} must be one {datatype} value")
    (value,) = struct.unpack(FORMATS[datatype], raw)
    if isinstance(value, float) and not math.isfinite(value):
        raise invalid(f"{name} must be a finite number")
    return value


def _check_outputs(outputs: Any) -> None:
    for output in outputs:
        if output.name not in OUTPUTS:
            raise invalid(f"there is no output {quoted(output.name)}; there are event and frames")
        if output.parameters:
            key = quoted(min(output.parameters))
            raise invalid(f"the parameter {key} of the output {output.name} is not accepted here")


def first_problem(error: ValidationError) -> str:
    """What is wrong with a body, by its first wrong field."""
    if error.errors(include_url=False)[0]["type"] == "json_invalid":
        return "the body is not valid JSON"
    return problems(error)[0]
