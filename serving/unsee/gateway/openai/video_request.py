"""A request to `/v1/videos`: OpenAI's fields, and the inputs of `text_to_video`.

`seconds` and `size` become frames, height and width within the base's limits. What does not fit is
refused, never rounded; but seconds become the nearest number of frames that the base makes.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationError,
)
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException, MultiPartParser

from unsee.client.messages import MODEL
from unsee.core.request_schema import nearest_fitting
from unsee.core.validation import ClosedModel, matching
from unsee.gateway.callers.refusal import invalid, quoted
from unsee.gateway.callers.request import HttpRequest, first_problem
from unsee.gateway.openai.videos import Wanted
from unsee.repository.base import Base

T = TypeVar("T")
MAX_FIELDS = 32
MAX_SECONDS = 3600.0
SIZE_FORM = "this must be width x height in pixels, such as 64x48"


def _number(value: Any) -> Any:
    """OpenAI's `seconds` is a string, also in JSON."""
    return float(value) if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?", value) else value


Seconds = Annotated[
    float, BeforeValidator(_number), Field(gt=0, le=MAX_SECONDS, allow_inf_nan=False)
]


class VideoRequest(HttpRequest):
    """OpenAI's fields beside those of a clip.

    Args:
        model: `text_to_video:<policy>` or `<policy>`; `text_to_video`: the tenant's default.
        seconds: the clip's length; alternatively `num_frames`.
        size: `<width>x<height>`; alternatively `width` and `height`.
    """

    model: Annotated[str, StringConstraints(max_length=128)] | None = None
    seconds: Seconds | None = None
    size: Annotated[str, matching(r"[0-9]{1,5}x[0-9]{1,5}", SIZE_FORM)] | None = None

    def wanted(self, base: Base) -> Wanted:
        """The requested clip; raises Refusal (INVALID_ARGUMENT) if the base has none."""
        self._check_consistent()
        update = {"policy": self.policy or self._policy_of_model}
        update |= self._frames(base) | self._sides(base)
        request = self.clip.model_copy(update=update)
        frames, width, height = (
            _either(getattr(request, name), getattr(base.defaults, name))
            for name in ("num_frames", "width", "height")
        )
        seconds = frames / base.defaults.fps
        return Wanted(request, self.model or MODEL, seconds, (width, height), self.id)

    def _check_consistent(self) -> None:
        for one, other in (("seconds", "num_frames"), ("size", "width"), ("size", "height")):
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise invalid(f"give {one} or {other}, not both")
        if self.policy is not None and self._policy_of_model not in (None, self.policy):
            raise invalid("model and policy name different policies; give one of them")
        if self.stream_frames:
            raise invalid(
                "stream_frames is for generate_stream: a video is fetched when it is finished"
            )

    @property
    def _policy_of_model(self) -> str | None:
        if self.model is None or self.model == MODEL:
            return None
        return self.model.removeprefix(f"{MODEL}:")

    def _frames(self, base: Base) -> dict[str, Any]:
        if self.seconds is None:
            return {}
        fps, (low, high) = base.defaults.fps, base.limits.num_frames
        num_frames = round(self.seconds * fps)
        if not low <= num_frames <= high:
            raise invalid(
                f"seconds must be between {low / fps:g} and {high / fps:g}, not {self.seconds:g}: "
                f"a clip has {low} to {high} frames, {fps:g} a second"
            )
        step = base.latents.frames_per_latent
        return {"num_frames": nearest_fitting(num_frames, step, low, high)[0]}

    def _sides(self, base: Base) -> dict[str, Any]:
        if self.size is None:
            return {}
        limits, (width, height) = base.limits, map(int, self.size.split("x"))
        for side, (low, high) in ((width, limits.width), (height, limits.height)):
            if not low <= side <= high or side % limits.size_multiple:
                raise invalid(
                    f"size cannot be {self.size}: the width must be {_range(limits.width)}, the "
                    f"height {_range(limits.height)}, both multiples of {limits.size_multiple}"
                )
        return {"width": width, "height": height}


class ListQuery(ClosedModel):
    """Which of the videos a list shows."""

    after: Annotated[str, StringConstraints(max_length=128)] | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"


def read_json(body: bytes) -> VideoRequest:
    """The request in a JSON body; raises Refusal (INVALID_ARGUMENT), naming the field."""
    return _checked(lambda: VideoRequest.model_validate_json(body))


async def read_form(content_type: str, body: bytes) -> VideoRequest:
    """The request in a multipart form; raises Refusal (INVALID_ARGUMENT), naming the field."""

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    _, options = parse_options_header(content_type)
    if options.get(b"charset", b"utf-8").lower() != b"utf-8":  # the parser would use any codec
        raise invalid("a form must be text in UTF-8; leave its charset out, or say utf-8")
    try:
        body.decode("utf-8")  # the parser would take other bytes for another alphabet's
    except UnicodeDecodeError:
        raise invalid("the form is not text in UTF-8") from None
    headers = Headers({"content-type": content_type})
    parser = MultiPartParser(
        headers, stream(), max_files=0, max_fields=MAX_FIELDS, max_part_size=len(body)
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise invalid("files, such as input_reference, are not taken here") from None
        raise invalid("the body is not a valid form") from None
    fields = _once([(name, str(value)) for name, value in form.multi_items()])
    return _checked(lambda: VideoRequest.model_validate_strings(fields))


def read_query(items: Iterable[tuple[str, str]]) -> ListQuery:
    """The query of a list; raises Refusal (INVALID_ARGUMENT), naming the field."""
    fields = _once(items)
    return _checked(lambda: ListQuery.model_validate_strings(fields))


def _once(items: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    fields: dict[str, str] = {}
    for name, value in items:
        if name in fields:
            raise invalid(f"the field {quoted(name)} is given twice")
        fields[name] = value
    return fields


def _checked(validate: Callable[[], T]) -> T:
    try:
        return validate()
    except ValidationError as error:
        raise invalid(first_problem(error)) from None


def _either(value: int | None, default: int) -> int:
    return default if value is None else value


def _range(limits: tuple[int, int]) -> str:
    low, high = limits
    return f"{low}" if low == high else f"between {low} and {high}"
