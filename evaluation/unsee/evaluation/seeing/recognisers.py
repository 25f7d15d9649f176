"""Opens the recogniser that a command line names: a built-in one or an installed plug-in."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from unsee.core.errors import InputError
from unsee.evaluation.seeing.judge_recogniser import JudgeRecogniser
from unsee.evaluation.seeing.openai_clip_recogniser import ClipRecogniser
from unsee.evaluation.seeing.recognise import Nameable, Recogniser
from unsee.models.base import Base

ENTRY_POINT_GROUP = "unsee.recognisers"
_BUILT_IN = ("judge:FOLDER", "clip:FOLDER_OR_HUB_ID")


def open_recogniser(spec: str | None, base: Base, concepts: Sequence[Nameable]) -> Recogniser:
    """The recogniser that `spec` names, as `NAME:ARGUMENT`; None is the base's own judge.

    `judge:FOLDER` and `clip:FOLDER_OR_HUB_ID` are built in. Any other NAME is looked up among the
    entry points of the group `unsee.recognisers`, callables `(argument: str) -> Recogniser`.
    `concepts` are all that a zero-shot recogniser tells apart. Raises `InputError` if the name is
    not known or the recogniser cannot be opened.
    """
    name, _, argument = (_judge_of(base) if spec is None else spec).partition(":")
    match name:
        case "judge":
            return JudgeRecogniser.from_pretrained(Path(at_home(argument)))
        case "clip":
            return ClipRecogniser.from_pretrained(at_home(argument), concepts)
        case _:
            return _installed(name)(argument)


def at_home(place: str) -> str:
    """`place` without a leading `~`, which no shell replaces behind a colon."""
    return os.path.expanduser(place)  # noqa: PTH111 - leaves the home of nobody as it is


def _judge_of(base: Base) -> str:
    if base.spec.judge is None:
        raise InputError(
            f"the base {base.name!r} brings no judge; name its folder as judge in base.yaml, or a "
            f"recogniser with --recogniser ({_choices()})"
        )
    return f"judge:{base.folder / base.spec.judge}"


def _installed(name: str) -> Callable[[str], Recogniser]:
    points = {point.name: point for point in _entry_points()}
    if name not in points:
        raise InputError(f"there is no recogniser {name!r}; installed are {_choices()}")
    try:
        loaded: Callable[[str], Recogniser] = points[name].load()
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"the recogniser {name!r} ({points[name].value}) cannot be loaded: {error}; install "
            "its package again"
        ) from error
    return loaded


def _choices() -> str:
    return ", ".join((*_BUILT_IN, *sorted(point.name for point in _entry_points())))


def _entry_points() -> Sequence[EntryPoint]:
    return tuple(entry_points(group=ENTRY_POINT_GROUP))
