"""What a caller may say of a clip and of how long to wait for it, typed once for both clients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypedDict

from unsee.core.errors import InputError
from unsee.core.request_schema import INPUTS, Prompt, RequestOptions
from unsee.core.sizes import LONGEST_S


class CallOptions(TypedDict, total=False):
    """How long one clip may take and how often to try; None means the client's own value."""

    timeout_s: float | None
    """How long the clip may take in all, waiting and retries included."""
    idle_timeout_s: float | None
    """How long the server may send nothing."""
    retries: int | None
    """How often to send the request again when the server refuses it before it begins."""


class Options(RequestOptions, CallOptions, total=False):
    """Keyword arguments of `stream`, `generate` and `generate_many`.

    What is left out, or None, is the server's choice, and the clip's record says what it chose.
    Beside the inputs of the model there are `timeout_s`, how long the clip may take in all, waiting
    and retries included; `idle_timeout_s`, how long the server may send nothing; and `retries`, how
    often to send the request again when the server refuses it before it begins.
    """


class Request(Prompt, Options):
    """One clip of `generate_many`, as a dictionary."""


@dataclass(frozen=True)
class CallLimits:
    """How long a call waits for what, and how often it tries.

    Args:
        timeout_s: seconds for one clip in all.
        idle_timeout_s: seconds until the next message; None: as long as `timeout_s` allows.
        connect_timeout_s: seconds for reaching the server.
        retries: how often a refused request is sent again.

    Raises:
        InputError: a time is not more than 0 or longer than `LONGEST_S`, or `retries` is less
            than 0.
    """

    timeout_s: float = 600.0
    idle_timeout_s: float | None = None
    connect_timeout_s: float = 5.0
    retries: int = 2

    def __post_init__(self) -> None:
        for name in ("timeout_s", "idle_timeout_s", "connect_timeout_s"):
            seconds = getattr(self, name)
            if seconds is not None and not 0 < seconds <= LONGEST_S:
                raise InputError(
                    f"{name} must be more than 0 and at most {LONGEST_S:.0f} seconds, "
                    f"got {seconds!r}"
                )
        if self.retries < 0:
            raise InputError(f"retries must be 0 or more, got {self.retries!r}")

    def with_options(self, options: CallOptions) -> CallLimits:
        """These limits with those that a call gives of its own; raises InputError."""
        own: Mapping[str, Any] = options
        names = [name for name in CallOptions.__annotations__ if own.get(name) is not None]
        return replace(self, **{name: own[name] for name in names})


def model_inputs(prompt: str, options: Options) -> dict[str, Any]:
    """The values of the model's inputs by name; None where the server chooses.

    Raises:
        TypeError: there is no such option.
    """
    unknown = _unknown(options, Options.__annotations__)
    if unknown is not None:
        raise TypeError(f"there is no option {unknown!r}; there are {_KNOWN}")
    given: Mapping[str, Any] = {**options, "prompt": prompt}
    return {name: given.get(name) for name in INPUTS}


def as_request(item: str | Request, options: Options) -> Request:
    """A prompt or a dictionary as a whole request; its own options go before `options`.

    Raises:
        InputError: it is neither, or has an option that does not exist.
    """
    own: Any = {"prompt": item} if isinstance(item, str) else item
    if not isinstance(own, Mapping) or "prompt" not in own:
        raise InputError(f"a request must be a prompt or a dictionary with one, got {item!r}")
    unknown = _unknown(own, Request.__annotations__)
    if unknown is not None:
        raise InputError(f"a request has no option {unknown!r}; there are {_KNOWN}")
    return Request(**{**options, **own})  # type: ignore[typeddict-item]


def _unknown(given: Mapping[str, Any], known: Mapping[str, Any]) -> str | None:
    return min((name for name in given if name not in known), default=None)


_KNOWN = ", ".join(Options.__annotations__)
