"""A recogniser that anybody can foretell, in the place of those that are installed."""

from typing import Any

import numpy as np
import pytest

from unsee.evaluation import attacks
from unsee.evaluation.attacks import Attack
from unsee.evaluation.seeing import recognisers
from unsee.evaluation.seeing.recognise import Frames, Nameable, Sighting


class Bright:
    """Sees any concept but Yeti in frames that are brighter than their middle grey."""

    name = "bright"

    def digest(self) -> str:
        return "sha256:bright"

    def knows(self, concept: Nameable) -> bool:
        return concept.name != "Yeti"

    def sightings(self, frames: Frames, concept: Nameable) -> Sighting:
        level = frames.mean(axis=(2, 3, 4))
        whole = np.asarray(level.mean(axis=1) > 127)
        return Sighting(whole, None if concept.category == "action" else level > 127)


class _Point:
    name = "bright"

    def load(self) -> Any:
        return lambda argument: Bright()


def use_bright(monkeypatch: pytest.MonkeyPatch, *usual_attacks: Attack) -> None:
    """`Bright` is the one recogniser that is installed, and these are the attacks by default."""
    monkeypatch.setattr(recognisers, "_entry_points", lambda: (_Point(),))
    monkeypatch.setattr(attacks, "ATTACKS", usual_attacks)
