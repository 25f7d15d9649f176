"""What made a clip. Knows no file, no pixels and no server."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class GenerationRecord(BaseModel):
    """What made a clip; enough to make it again on the same base.

    Unlike the records of this project's own files it keeps fields that it does not know: a newer
    server may say more, and a client should neither break nor lose it.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    prompt: str
    negative_prompt: str = ""
    policy: str
    revision: int
    encoder_digest: str | None = None
    base: str
    base_digest: str
    seed: int
    scheduler: str
    acceleration: str = "none"
    num_inference_steps: int
    guidance_scale: float
    num_frames: int
    height: int
    width: int
    fps: float
    started_at: str
    seconds: dict[str, float] = {}
    graphs: dict[str, str] = {}
