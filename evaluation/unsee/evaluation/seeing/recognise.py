"""What a recogniser is: something that says which concepts frames show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

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
        scores: [N], from 0 to 1; the concept's own probability in the mean over frames (an action:
            in the whole clip). None where the recogniser has no probabilities.
    """

    whole: Bools
    per_frame: Bools | None
    scores: NDArray[np.floating[Any]] | None = None

    @property
    def any_frame(self) -> Bools:
        """[N]; whether a single frame shows the concept; an action's is `whole`."""
        return self.whole if self.per_frame is None else self.per_frame.any(axis=1)

    @property
    def strength(self) -> NDArray[np.floating[Any]]:
        """[N], from 0 to 1; `scores`, else the share of frames that show the concept."""
        if self.scores is not None:
            return self.scores
        shown = self.whole[:, None] if self.per_frame is None else self.per_frame
        return np.asarray(shown.mean(axis=1))


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
