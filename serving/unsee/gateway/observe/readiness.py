"""Whether clips can be made now, found out by inference and remembered for a few seconds.

Triton's own flag stays true when a model's process has died, so it is not asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from unsee.gateway.behind.upstream import Upstream
from unsee.gateway.callers.refusal import Refusal
from unsee.repository.layout import encoder_model

MAX_AGE_S = 5.0
PROBE_TIMEOUT_S = 5.0

Revisions = Callable[[], Mapping[str, int | None]]
"""The policies in use with their active revisions; None where it is not known."""


@dataclass(frozen=True)
class Health:
    """What answered its probe: `text_to_video`, and the encoder of each policy in use."""

    model: bool = False
    encoders: Mapping[str, bool] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """Whether clips can be made: one dead encoder does not take the others from service."""
        return self.model and any(self.encoders.values())

    @property
    def public_sentence(self) -> str:
        """What does not answer, in words that name no policy: anybody may read them."""
        if self.model and not all(self.encoders.values()):
            return "the encoders of some policies do not answer"
        return self.sentence

    @property
    def sentence(self) -> str:
        """What does not answer; `"ready"` if everything does. For operators."""
        if not self.model:
            return "the model text_to_video does not answer"
        silent = ", ".join(sorted(name for name, answers in self.encoders.items() if not answers))
        return f"the encoders of these policies do not answer: {silent}" if silent else "ready"


class Readiness:
    """Asks `text_to_video` and the encoders in use; callers at one time share one answer."""

    def __init__(self, upstream: Upstream, revisions: Revisions) -> None:
        self._upstream = upstream
        self._revisions = revisions
        self._lock = asyncio.Lock()
        self._asked_at = -float("inf")
        self._health = Health()

    async def health(self) -> Health:
        """What the last probe found; probes again if that was more than `MAX_AGE_S` ago."""
        async with self._lock:
            if time.monotonic() - self._asked_at > MAX_AGE_S:
                self._health = await self._probe()
                self._asked_at = time.monotonic()
        return self._health

    async def _probe(self) -> Health:
        revisions = self._revisions()
        model, *encoders = await asyncio.gather(
            _answers(self._upstream.check_model(PROBE_TIMEOUT_S)),
            *(self._encoder_answers(policy, number) for policy, number in revisions.items()),
        )
        return Health(model, dict(zip(revisions, encoders, strict=True)))

    async def _encoder_answers(self, policy: str, revision: int | None) -> bool:
        version = "" if revision is None else str(revision)
        name = encoder_model(policy)
        return await _answers(self._upstream.check_encoder(name, version, PROBE_TIMEOUT_S))


async def _answers(probe: Coroutine[Any, Any, None]) -> bool:
    try:
        await probe
    except Refusal:
        return False
    return True
