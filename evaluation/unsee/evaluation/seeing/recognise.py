"""Recognition: what frames show, whoever looks.

Knows the interface and how a recogniser is chosen by name; knows no network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from unsee.core.errors import InputError

if TYPE_CHECKING:
    from unsee.models.base import Base

ENTRY_POINT_GROUP = "unsee.recognisers"
_BUILT_IN = ("judge:FOLDER", "clip:FOLDER_OR_HUB_ID")

Frames = NDArray[np.uint8]
Bools = NDArray[np.bool_]


class Nameable(Protocol):
    """Something that can be recognised: a policy's concept, or one of an evaluation set."""

    @property
    def name(self) -> str: ...
    @property
    def category(self) -> str: ...
    @property
    def aliases(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Sighting:
    """Whether a concept is seen in each of N clips.

    Args:
        whole: [N]; the mean over frames shows the concept (an action: the whole clip does).
        per_frame: [N, F]; None for an action, which no single frame shows.
    """

    whole: Bools
    per_frame: Bools | None

    @property
    def any_frame(self) -> Bools:
        """[N]; whether a single frame shows the concept; an action's is `whole`."""
        return self.whole if self.per_frame is None else self.per_frame.any(axis=1)


class Recogniser(Protocol):
    """Looks at frames and says whether they show a concept; it never sees the prompt."""

    @property
    def name(self) -> str:
        """What the report calls it."""
        ...

    def digest(self) -> str:
        """`"sha256:…"` of what decides its answers."""
        ...

    def knows(self, concept: Nameable) -> bool:
        """Whether it can be asked about `concept`."""
        ...

    def sightings(self, frames: Frames, concept: Nameable) -> Sighting:
        """Whether uint8 frames [N, F, H, W, 3] show `concept`."""
        ...


def open_recogniser(spec: str | None, base: Base, concepts: Sequence[Nameable]) -> Recogniser:
    """The recogniser that `spec` names, as `NAME:ARGUMENT`; None is the base's own judge.

    `judge:FOLDER` and `clip:FOLDER_OR_HUB_ID` are built in. Any other NAME is looked up among the
    entry points of the group `unsee.recognisers`, callables `(argument: str) -> Recogniser`.
    `concepts` are all that a zero-shot recogniser tells apart. Raises `InputError` if the name is
    not known or the recogniser cannot be opened.
    """
    name, _, argument = (spec or _judge_of(base)).partition(":")
    match name:
        case "judge":
            from unsee.evaluation.seeing.judge_recogniser import JudgeRecogniser

            return JudgeRecogniser.from_pretrained(Path(argument))
        case "clip":
            from unsee.evaluation.seeing.openai_clip_recogniser import ClipRecogniser

            return ClipRecogniser.from_pretrained(argument, concepts)
        case _:
            return _installed(name)(argument)


def _judge_of(base: Base) -> str:
    if base.spec.judge is None:
        raise InputError(
            f"the base {base.name!r} brings no judge; name one with --recogniser ({_choices()})"
        )
    return f"judge:{base.folder / base.spec.judge}"


def _installed(name: str) -> Callable[[str], Recogniser]:
    points = {point.name: point for point in _entry_points()}
    if name not in points:
        raise InputError(f"there is no recogniser {name!r}; installed are {_choices()}")
    loaded: Callable[[str], Recogniser] = points[name].load()
    return loaded


def _choices() -> str:
    return ", ".join((*_BUILT_IN, *sorted(point.name for point in _entry_points())))


def _entry_points() -> Sequence[EntryPoint]:
    return tuple(entry_points(group=ENTRY_POINT_GROUP))
