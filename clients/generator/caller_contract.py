"""The contract of `text_to_video` as data: its file, `clients/contract/text_to_video.json`, typed.

Knows what may be said of inputs, outputs, events, the record, errors and limits; knows no language
and no page that is made of it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from unsee.core.validation import ClosedModel

Datatype = Literal["BYTES", "INT64", "INT32", "FP32", "BOOL", "UINT8"]
JsonType = Literal["string", "integer", "number", "strings", "numbers", "record"]
"""Of a field in an event; `strings` and `numbers` are objects of them by name."""


class Input(ClosedModel):
    """A tensor of the request.

    Args:
        minimum, maximum: the least and the greatest value that every server takes.
        limited_by: the limit of the server's base (its `base.json`) that bounds the value.
        multiple_of: the limit of the base that the value must be a multiple of.
        one_more_than_multiple_of: the field of the base's latents that it must be one more than a
            multiple of.
        choices: the values that exist; None: the server says.
        default: what a request that leaves it out gets, if that is the same everywhere.
        default_from: in words, where the default comes from otherwise.
    """

    name: str
    datatype: Datatype
    shape: tuple[int, ...] = (1,)
    required: bool = False
    description: str
    minimum: int | float | None = None
    maximum: int | float | None = None
    limited_by: str | None = None
    multiple_of: str | None = None
    one_more_than_multiple_of: str | None = None
    choices: tuple[str, ...] | None = None
    default: str | int | float | bool | None = None
    default_from: str | None = None


class Output(ClosedModel):
    """A tensor of a response; a name in `shape` is a size that the record states.

    Of a part the first size is its own number of frames.
    """

    name: str
    datatype: Datatype
    shape: tuple[int | str, ...]
    sent_in: Literal["every response", "the last response, or the parts"]
    description: str


class JsonField(ClosedModel):
    """A field of an event or of the record; not `required`: older servers do not send it."""

    name: str
    type: JsonType
    required: bool = True
    nullable: bool = False
    default: str | int | float | None = None
    description: str


class Event(ClosedModel):
    """What the output `event` says, told apart by `type`; `frames`: they come with it."""

    type: str
    description: str
    frames: bool = False
    fields: tuple[JsonField, ...]


class Status(ClosedModel):
    """How a request fails: the name of a gRPC status.

    Args:
        sent_by: `model` words it as the text of a stream's last response, `gateway` as the status
            of the call, `client` raises it by itself.
        http: the gateway's status code over HTTP.
    """

    name: str
    number: int = Field(ge=1, le=16)
    http: int | None = None
    sent_by: tuple[Literal["model", "gateway", "client"], ...]
    description: str


class Limit(ClosedModel):
    """A bound of one server, with the value that it has unless its operator sets another."""

    name: str
    value: int
    unit: str
    set_by: str
    description: str


class Metadata(ClosedModel):
    """What a caller may send beside a request over gRPC."""

    name: str
    description: str


class Service(ClosedModel):
    """Where the model is asked."""

    grpc_service: str
    grpc_method: str
    http_path: str


class Contract(ClosedModel):
    """Everything that a caller needs to know of one model."""

    model: str
    service: Service
    metadata: tuple[Metadata, ...]
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    events: tuple[Event, ...]
    record: tuple[JsonField, ...]
    statuses: tuple[Status, ...]
    limits: tuple[Limit, ...]
