"""What the core of the clients asks its driver to do; see `conversation`."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from unsee.media.clip import Clip, Progress


@dataclass(frozen=True)
class Ask:
    """Call a unary method of GRPCInferenceService; the result is its response."""

    method: str
    request: Any
    timeout_s: float


@dataclass(frozen=True)
class Open:
    """Begin the stream of `request`. No result."""

    request: Any
    timeout_s: float


@dataclass(frozen=True)
class Next:
    """Read the open stream; the result is a message, or None at its end."""

    idle_timeout_s: float | None


@dataclass(frozen=True)
class Sleep:
    """Wait. No result."""

    seconds: float


Event = Progress | Clip
"""What a caller gets to see."""
Work = Ask | Open | Next | Sleep
Steps = Generator[Work | Event, Any, None]
