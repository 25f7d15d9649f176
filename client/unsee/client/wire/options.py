"""What a caller may ask of a clip, typed once for every method of both clients.

Knows the names of the model's inputs and what a call may wait for; knows no connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

from unsee.core.errors import InputError


class Options(TypedDict, total=False):
    """Keyword arguments of `stream`, `generate` and `generate_many`; what is left out, or None, is
    the server's choice, and the clip's record says what it chose."""

    policy: str | None
    """The concept policy to apply."""
    revision: int | None
    """One of the policy's eligible revisions."""
    seed: int | None
    """Equal requests with equal seeds give equal bytes."""
    negative_prompt: str | None
    """What guidance moves away from."""
    num_inference_steps: int | None
    """Steps of the scheduler."""
    guidance_scale: float | None
    """Classifier-free guidance; 1 or less means none."""
    num_frames: int | None
    """Length of the clip."""
    height: int | None
    """In pixels."""
    width: int | None
    """In pixels."""
    scheduler: str | None
    """A diffusers class name, such as "DDIMScheduler"."""
    acceleration: str | None
    """"none", "balanced" or "fast"."""
    timeout_s: float | None
    """How long the clip may take in all, waiting and retries included."""
    idle_timeout_s: float | None
    """How long the server may send nothing."""
    retries: int | None
    """How often to ask again when the server refuses before it starts and says "later"."""


class Request(Options):
    """One clip of `generate_many`, as a dictionary."""

    prompt: str


@dataclass(frozen=True)
class Patience:
    """How long to wait for what; the client's own values, unless a call says otherwise.

    Args:
        timeout_s: for one clip in all.
        idle_timeout_s: for the next event; None: as long as `timeout_s` allows.
        connect_timeout_s: for reaching the server.
        retries: how often to ask again.
    """

    timeout_s: float = 600.0
    idle_timeout_s: float | None = None
    connect_timeout_s: float = 5.0
    retries: int = 2

    def __post_init__(self) -> None:
        for name in ("timeout_s", "idle_timeout_s", "connect_timeout_s"):
            seconds = getattr(self, name)
            if seconds is not None and not seconds > 0:
                raise InputError(f"{name} must be more than 0 seconds, got {seconds!r}")
        if self.retries < 0:
            raise InputError(f"retries must be 0 or more, got {self.retries!r}")


def as_request(asked: str | Request, options: Options) -> Request:
    """A prompt, or a dictionary, as a whole request; its own options go before `options`.

    Raises:
        InputError: it is neither, or says something that there is not.
    """
    own: Any = {"prompt": asked} if isinstance(asked, str) else asked
    if not isinstance(own, Mapping) or "prompt" not in own:
        raise InputError(f"a request must be a prompt or a dictionary with one, got {asked!r}")
    unknown = sorted(set(own) - set(Request.__annotations__))
    if unknown:
        raise InputError(f"a request has no option {unknown[0]!r}; there are {_KNOWN}")
    return Request(**{**options, **own})  # type: ignore[typeddict-item]


_KNOWN = ", ".join(Options.__annotations__)
MODEL_OPTIONS = tuple(Options.__annotations__)[:-3]
WAITING_OPTIONS = tuple(Options.__annotations__)[-3:]


def split_options(
    prompt: str, default: Patience, **options: Unpack[Options]
) -> tuple[dict[str, Any], Patience]:
    """The values of the model's inputs, and how long to wait for the clip.

    Raises:
        TypeError: there is no such option.
        InputError: a time or a count makes no sense.
    """
    given: Mapping[str, Any] = options
    for name in given:
        if name not in Options.__annotations__:
            raise TypeError(f"there is no option {name!r}; there are {_KNOWN}")
    values = {"prompt": prompt} | {name: given.get(name) for name in MODEL_OPTIONS}
    waiting = {name: given[name] for name in WAITING_OPTIONS if given.get(name) is not None}
    return values, Patience(**{**vars(default), **waiting})
