"""Whether clips can be made now, found out by inference and remembered for a few seconds.

Triton's own flag stays true when a model's process has died, so it is not asked. The policies share
one process, so one question is enough for all of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from unsee.gateway.behind.upstream import Upstream
from unsee.gateway.callers.refusal import Refusal

MAX_AGE_S = 5.0
PROBE_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Health:
    """What answered its probe: `text_to_video`, and `prompt_encoder` with the text encoder."""

    text_to_video: bool = False
    prompt_encoder: bool = False

    @property
    def ready(self) -> bool:
        """Whether clips can be made."""
        return self.text_to_video and self.prompt_encoder

    @property
    def sentence(self) -> str:
        """What does not answer; `"ready"` if everything does."""
        silent = [name for name, answers in self.models.items() if not answers]
        return f"the model {silent[0]} does not answer" if silent else "ready"

    @property
    def models(self) -> dict[str, bool]:
        """Whether each model answered, by name."""
        return {"text_to_video": self.text_to_video, "prompt_encoder": self.prompt_encoder}


class Readiness:
    """Asks both models; callers at one time share one probe, which ends with none of them."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._probed_at = -float("inf")
        self._probing: asyncio.Task[Health] | None = None

    async def health(self) -> Health:
        """What the last probe found; probes again if that was more than `MAX_AGE_S` ago."""
        is_old = time.monotonic() - self._probed_at > MAX_AGE_S
        if self._probing is None or (self._probing.done() and is_old):
            self._probing = asyncio.create_task(self._probe())
        return await asyncio.shield(self._probing)

    async def _probe(self) -> Health:
        probes = (
            self._upstream.check_text_to_video(PROBE_TIMEOUT_S),
            self._upstream.check_prompt_encoder(PROBE_TIMEOUT_S),
        )
        health = Health(*await asyncio.gather(*map(_answers, probes)))
        self._probed_at = time.monotonic()
        return health


async def _answers(probe: Coroutine[Any, Any, None]) -> bool:
    try:
        await probe
    except Refusal:
        return False
    return True
