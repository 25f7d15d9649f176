"""A request of `text_to_video`: every input once, with its type, limits, default and meaning.

Whatever else knows the inputs is made of this module: the wire format, the gateway's check, the
model's `config.pbtxt` and its own check, the callers' contract and the options of `unsee generate`.
The model can import nothing of Unsee, so this file lies beside it and needs the standard library
alone; `unsee.core.request_schema` is a link to it.

To add an input: add it to `RequestOptions` and to `GenerationRequest` here, to `GenerationRecord`
in `unsee.core.record` if it has a part in what the clip shows, use it in the model, and run
`make stubs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, TypedDict, get_type_hints

Datatype = Literal["BYTES", "INT64", "INT32", "FP32", "BOOL"]
FROM_BASE = "the base's"
"""The `default_from` of an input whose default is the field of that name in the base's defaults."""
WHOLE_NUMBERS: Mapping[str, tuple[int, int]] = {
    "INT32": (-(2**31), 2**31 - 1),
    "INT64": (-(2**63), 2**63 - 1),
}
"""The smallest and the largest value of each whole datatype."""
_PYTHON_TYPES: Mapping[str, type] = {
    "BYTES": str,
    "INT64": int,
    "INT32": int,
    "FP32": float,
    "BOOL": bool,
}


@dataclass(frozen=True)
class Input:
    """One input of the model, a tensor of shape [1].

    Args:
        datatype: Triton's name for it; BYTES is text in UTF-8.
        help: what it means, as one sentence.
        required: whether every request has it.
        default: what a request that leaves it out gets, if that is the same on every server.
        default_from: in words, where the default comes from otherwise.
        minimum, maximum: inclusive bounds that are the same on every server.
        limited_by: the field of the base's limits that bounds the value.
        multiple_of: the field of the base's limits that the value must be a multiple of.
        one_more_than_multiple_of: the field of the base's latents that the value must be one more
            than a multiple of.
        choices: the values that there are, if they are the same on every server.
        is_name: whether it is a short name rather than a text that the model reads.
    """

    datatype: Datatype
    help: str
    required: bool = False
    default: str | int | float | bool | None = None
    default_from: str | None = None
    minimum: int | float | None = None
    maximum: int | float | None = None
    limited_by: str | None = None
    multiple_of: str | None = None
    one_more_than_multiple_of: str | None = None
    choices: tuple[str, ...] | None = None
    is_name: bool = False

    @property
    def python_type(self) -> type:
        """The type of its values in Python: str, int, float or bool."""
        return _PYTHON_TYPES[self.datatype]


class Prompt(TypedDict):
    """What every request has."""

    prompt: Annotated[
        str,
        Input(
            "BYTES",
            "What the clip should show; a prompt of more tokens than the text encoder takes is "
            "refused, never cut.",
            required=True,
            limited_by="prompt_tokens",
        ),
    ]


class RequestOptions(TypedDict, total=False):
    """What a request may leave out; None means the same."""

    negative_prompt: Annotated[
        str | None,
        Input("BYTES", "What the clip should not show.", default="", limited_by="prompt_tokens"),
    ]
    policy: Annotated[
        str | None,
        Input(
            "BYTES",
            "The concept policy to apply; required if there is no default.",
            default_from="that of the tenant or the repository",
            is_name=True,
        ),
    ]
    revision: Annotated[
        int | None,
        Input("INT64", "One of the policy's eligible revisions.", default_from="the active one"),
    ]
    seed: Annotated[
        int | None,
        Input(
            "INT64",
            "Seed of the noise; equal requests with equal seeds give equal bytes.",
            default_from="drawn, and recorded",
            minimum=0,
        ),
    ]
    num_inference_steps: Annotated[
        int | None,
        Input(
            "INT32",
            "How many steps the scheduler takes.",
            default_from=FROM_BASE,
            limited_by="num_inference_steps",
        ),
    ]
    guidance_scale: Annotated[
        float | None,
        Input(
            "FP32",
            "How closely to follow the prompt (classifier-free guidance); 1 or less switches "
            "guidance off.",
            default_from=FROM_BASE,
            limited_by="guidance_scale",
        ),
    ]
    num_frames: Annotated[
        int | None,
        Input(
            "INT32",
            "Length of the clip in frames.",
            default_from=FROM_BASE,
            limited_by="num_frames",
            one_more_than_multiple_of="frames_per_latent",
        ),
    ]
    height: Annotated[
        int | None,
        Input(
            "INT32",
            "Height of the clip in pixels.",
            default_from=FROM_BASE,
            limited_by="height",
            multiple_of="size_multiple",
        ),
    ]
    width: Annotated[
        int | None,
        Input(
            "INT32",
            "Width of the clip in pixels.",
            default_from=FROM_BASE,
            limited_by="width",
            multiple_of="size_multiple",
        ),
    ]
    scheduler: Annotated[
        str | None,
        Input(
            "BYTES",
            "Name of a diffusers scheduler that the server offers, such as DDIMScheduler.",
            default_from=FROM_BASE,
            is_name=True,
        ),
    ]
    acceleration: Annotated[
        str | None,
        Input(
            "BYTES",
            "How far to shorten the work: in some steps the video model is extrapolated instead of "
            "evaluated, which gives a similar clip sooner.",
            default="none",
            choices=("none", "balanced", "fast"),
            is_name=True,
        ),
    ]
    stream_frames: Annotated[
        bool | None,
        Input(
            "BOOL",
            "Send the frames in parts, each as soon as it is decoded, instead of all at the end; "
            "a base whose decoder gives all frames at once sends one part.",
            default=False,
        ),
    ]


@dataclass(frozen=True)
class GenerationRequest:
    """A request with every default filled in, as the model works on it. Sizes in pixels.

    `policy` and `revision` stay None where the server's list of policies decides.
    """

    prompt: str
    negative_prompt: str
    policy: str | None
    revision: int | None
    seed: int
    num_inference_steps: int
    guidance_scale: float
    num_frames: int
    height: int
    width: int
    scheduler: str
    acceleration: str
    stream_frames: bool


def nearest_fitting(value: int, step: int, low: int, high: int) -> tuple[int, ...]:
    """The numbers between `low` and `high`, one more than a multiple of `step`, nearest to `value`.

    That is `value` alone if it is such a number, else the nearest two, the nearer first.
    """
    fitting = range(low + (1 - low) % step, high + 1, step)
    return (
        (value,) if value in fitting else tuple(sorted(fitting, key=lambda n: abs(n - value))[:2])
    )


INPUTS: Mapping[str, Input] = {
    name: annotated.__metadata__[0]
    for fields in (Prompt, RequestOptions)
    for name, annotated in get_type_hints(fields, include_extras=True).items()
}
"""Every input of the model by its name."""
