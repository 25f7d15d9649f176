"""Anchors: what is to be shown in a concept's place, position by position.

The anchor words stand where the name stood (Kumari et al., Ablating Concepts, arXiv 2303.13516, map
a concept to an anchor in the same way).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from unsee.core.categories import Category
from unsee.models.encoders.frame import PromptFrame

ANCHORS: dict[Category, str] = {
    "character": "cartoon creature",
    "person": "a person",
    "object": "picture",
    "style": "",
    "action": "standing still",
}
"""What is shown by default; "" leaves the name out."""


@dataclass(frozen=True)
class Naming:
    """A prompt that names a concept, as token ids: what stands before, the name, what follows."""

    before: tuple[int, ...]
    name: tuple[int, ...]
    after: tuple[int, ...]


def anchored(naming: Naming, anchor: Sequence[int], frame: PromptFrame) -> list[int]:
    """The framed prompt with the anchor in the name's place."""
    return frame.framed([*naming.before, *anchor, *naming.after])


def anchored_positions(naming: Naming, anchor: Sequence[int], frame: PromptFrame) -> list[int]:
    """For every position of the naming prompt, the position of the anchored one that it takes over.

    The name's tokens take the anchor's in turn, the last one for what is left over, or the token
    before where the anchor is empty, or what follows where nothing is before; what follows is
    shifted by the difference.
    """
    start = frame.first + len(naming.before)
    end = start + len(naming.name)
    shift = len(anchor) - len(naming.name)
    last = max(start + len(anchor) - 1, 0)
    return [
        position
        if position < start
        else min(position, last)
        if position < end
        else min(position + shift, frame.length - 1)
        for position in range(frame.length)
    ]
